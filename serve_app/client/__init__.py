"""The Python client: add documents, search, look after them, over HTTP. Knows nothing of Ray, models or tables.

    with Client("http://127.0.0.1:8000") as client:
        for added in client.add([NewDocument(image=Path("boat.png")), NewDocument(text="a red boat")]):
            print(added.id, added.status or added.error)
        for result in client.search("two boats at night").results:
            print(result.score, result.uri or result.text)
        cosines = client.embed(["two boats"]).vectors @ client.embed(images=[Path("boat.png")]).vectors.T

Failures are raised as the error of serve_app.errors whose code the service named. What fails for want of a moment (503,
a refused connection) is repeated a few times; every call may be repeated safely.
"""

from serve_app.client.answers import (
    Added,
    Classification,
    Classified,
    Deletion,
    Embeddings,
    ImageSource,
    Job,
    LabelProbability,
    Moment,
    NewDocument,
    NewVideo,
    Orphans,
    Ready,
    SearchResult,
    SearchResults,
    Snapshot,
    StoredDocument,
    Table,
    TableEntry,
)
from serve_app.client.client import Client

__all__ = [
    "Added",
    "Classification",
    "Classified",
    "Client",
    "Deletion",
    "Embeddings",
    "ImageSource",
    "Job",
    "LabelProbability",
    "Moment",
    "NewDocument",
    "NewVideo",
    "Orphans",
    "Ready",
    "SearchResult",
    "SearchResults",
    "Snapshot",
    "StoredDocument",
    "Table",
    "TableEntry",
]
