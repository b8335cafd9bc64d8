"""Very small OpenCLIP models with random weights, saved in `local-dir:` form. Made on the spot: nothing is downloaded."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
CUSTOM_CFG: dict[str, Any] = {**MODEL_CFG, "custom_text": True, "quick_gelu": True}
COCA_CFG: dict[str, Any] = {
    "embed_dim": 32,
    "custom_text": True,
    "vision_cfg": {
        **MODEL_CFG["vision_cfg"],
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {**MODEL_CFG["text_cfg"], "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "attn_pooler_heads": 2,
    },
}
PREPROCESS_CFG: dict[str, Any] = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def save_checkpoint(folder: Path, model_cfg: dict[str, Any] = MODEL_CFG, *, seed: int = 0) -> Path:
    """Writes open_clip_config.json and open_clip_model.safetensors; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(random_weights(model_cfg, seed), folder / "open_clip_model.safetensors")
    return folder


def random_weights(model_cfg: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    config = deepcopy(model_cfg)
    custom = config.pop("custom_text", False)
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = {
        name: value.clone().contiguous() for name, value in kind(**config).state_dict().items()
    }
    return state
