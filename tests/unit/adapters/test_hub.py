"""Models of a hub, from a cache that this test fills: by repository, and by an architecture and its tag. In a process of its own,
because the hub's library reads its settings when it is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.adapters.tiny_checkpoints import FAMILIES, MODEL_CFG, save_checkpoint

CARDS = """
import json, sys
from dataclasses import asdict
import open_clip
from serve_app.adapters.open_clip import load_image_tower, load_text_tower
open_clip.add_model_config(sys.argv[1])
named = [
    {"model": "hf-hub:somebody/multilingual"},
    {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"},
    {"model": "local-dir:" + sys.argv[2]},
]
towers = [load(**each) for each in named for load in (load_image_tower, load_text_tower)]
print(json.dumps([asdict(tower.card) for tower in towers]))
"""


def put_in_cache(cache: Path, repository: str) -> Path:
    """The folder of a repository's one commit, laid out as huggingface_hub keeps it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    return snapshot


def test_a_model_of_a_hub_is_what_the_same_files_in_a_folder_are(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = save_checkpoint(tmp_path / "whole", FAMILIES["XLM-RoBERTa"])
    repository = put_in_cache(cache, "somebody/multilingual")
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (repository / name).write_bytes((whole / name).read_bytes())
    text_tower = put_in_cache(cache, "xlm-roberta-base")  # whose config and tokeniser OpenCLIP asks the hub for
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (text_tower / name).write_bytes((whole / name).read_bytes())
    tagged = save_checkpoint(put_in_cache(cache, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"), MODEL_CFG)
    (tagged / "open_clip_config.json").unlink()
    (tmp_path / "ViT-B-32.json").write_text(json.dumps(MODEL_CFG))  # tiny, under the name that has the tag
    settings = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", CARDS, str(tmp_path / "ViT-B-32.json"), str(whole)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    cards = json.loads(answer.stdout)
    assert [card["model"] for card in cards[::2]] == ["hf-hub:somebody/multilingual", "ViT-B-32", "local-dir:whole"]
    assert cards[::2] == cards[1::2]  # whichever tower
    assert cards[0]["fingerprint"] == cards[4]["fingerprint"]
    assert cards[2]["preprocessing"]["mean"] == [0.48145466, 0.4578275, 0.40821073]
