"""What a restart finds: the same documents, and a table that only its own encoder may touch."""

from pathlib import Path

import httpx
import open_clip
import pytest
import torch

from serve_app.client import Client, NewDocument
from serve_app.demo import network
from serve_app.demo.corpus import demo_pictures, demo_texts
from serve_app.errors import NotReady
from serve_app.ways_in import PLAIN
from tests.cluster.conftest import ready, start_graph

CORPUS = [
    *(NewDocument(id=picture.id, image=picture.encoded()) for picture in demo_pictures(count=8)),
    *(NewDocument(id=text.id, text=text.text) for text in demo_texts(count=4)),
]


def untrained_model(folder: Path) -> Path:
    """Another model: the demo's architecture with random weights, in `local-dir:` form."""
    torch.manual_seed(5)
    weights = open_clip.CLIP(**network.MODEL_CFG).state_dict()
    known = torch.ones(network.MODEL_CFG["text_cfg"]["vocab_size"], dtype=torch.bool)
    network.write_checkpoint(folder, weights, network.MODEL_CFG, known)
    return folder


def test_documents_outlive_a_restart_and_another_model_is_refused(tmp_path: Path) -> None:
    with start_graph(tmp_path) as graph, Client(ready(graph).url) as client:
        assert {added.status for added in client.add(CORPUS)} == {"stored"}
        before = [client.get(document.id or "") for document in CORPUS]
        found = [result.id for result in client.search("a cat").results]

    # By the other way in: what is found does not depend on it.
    with start_graph(tmp_path, ingress=PLAIN) as graph, Client(ready(graph).url) as client:
        assert {added.status for added in client.add(CORPUS)} == {"unchanged"}
        assert [client.get(document.id or "") for document in CORPUS] == before
        assert sum(client.table().counts.values()) == len(CORPUS)
        assert [result.id for result in client.search("a cat").results] == found

    other = untrained_model(tmp_path / "other")
    with start_graph(tmp_path, CROSSMODAL_ENCODER__MODEL=f"local-dir:{other}") as graph:
        with pytest.raises(NotReady, match=r"built with the encoder demo .* local-dir:other .* table\.uri"):
            ready(graph)
        with httpx.Client(base_url=graph.url, timeout=60) as http:
            assert http.get("/readyz").json()["error"]["code"] == "fingerprint_mismatch"
            for path, body in (
                ("/v1/search", {"query": {"text": "a cat"}}),
                ("/v1/documents", {"documents": [{"text": "a cat"}]}),
            ):
                assert http.post(path, json=body).json()["error"]["code"] == "fingerprint_mismatch"
