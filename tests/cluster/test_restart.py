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
        before = client.table()
        found = [result.id for result in client.search("a cat").results]

    with start_graph(tmp_path) as graph, Client(ready(graph).url) as client:
        assert {added.status for added in client.add(CORPUS)} == {"unchanged"}
        after = client.table()
        assert (after.version, after.counts) == (before.version, before.counts)
        assert [result.id for result in client.search("a cat").results] == found

    other = untrained_model(tmp_path / "other")
    with start_graph(tmp_path, CROSSMODAL_ENCODER__MODEL=f"local-dir:{other}") as graph:
        reasons: list[str] = []
        with pytest.raises(NotReady, match="was built with the encoder demo"):
            graph.wait_until_ready(45, reasons.append)
        assert "local-dir:other" in reasons[-1]
        assert "table.uri" in reasons[-1]
        with httpx.Client(base_url=graph.url, timeout=60) as http:
            assert http.get("/readyz").json()["error"]["code"] == "not_ready"
            for path, body in (
                ("/v1/search", {"query": {"text": "a cat"}}),
                ("/v1/documents", {"documents": [{"text": "a cat"}]}),
            ):
                assert http.post(path, json=body).json()["error"]["code"] == "fingerprint_mismatch"
