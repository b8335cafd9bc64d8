"""The demo model itself: its OpenCLIP configuration, how it is built, read and written. Knows no scenes and no training."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

MODEL_FOLDER = Path(__file__).parent / "model"
"""The committed checkpoint, in OpenCLIP's `local-dir:` form."""

IMAGE_SIZE = 64
CONTEXT_LENGTH = 40

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 192,
    "vision_cfg": {
        "image_size": IMAGE_SIZE,
        # Measured on one core in bfloat16: 281 pictures a CPU second, forward and backward, where a vision transformer of
        # 6 layers and width 192 on 8 x 8 patches makes 110.
        "timm_model_name": "resnet10t",
        "timm_model_pretrained": False,
        # Attention over the last feature map, with positions: a plain mean would blur left and right.
        "timm_pool": "abs_attn",
        "timm_proj": "",
    },
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": 49408,
        "width": 96,
        "heads": 4,
        "layers": 4,
    },
}

PREPROCESS_CFG: dict[str, Any] = {
    "size": IMAGE_SIZE,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.27, 0.27, 0.27],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def build(model_cfg: dict[str, Any] | None = None) -> nn.Module:
    """An untrained `open_clip.CLIP` of the demo's shape, or of `model_cfg`."""
    model: nn.Module = open_clip.CLIP(**(model_cfg or MODEL_CFG))
    return model


def load(folder: Path = MODEL_FOLDER) -> tuple[nn.Module, Any, Any]:
    """Model, picture transform and tokeniser of a `local-dir:` checkpoint, by plain OpenCLIP and without a network."""
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name, require_pretrained=True)
    model.eval()
    return model, transform, open_clip.get_tokenizer(name)


def encode_text_trimmed(model: Any, tokens: Tensor) -> Tensor:
    """What `model.encode_text(tokens)` gives, computed over the longest text only. (n, context) -> (n, embed_dim).

    The text tower looks backwards only and is read at the end token, so the padding behind it changes nothing.
    """
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)
    return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ model.text_projection  # type: ignore[no-any-return]


def write_checkpoint(folder: Path, weights: dict[str, Tensor], model_cfg: dict[str, Any], known_tokens: Tensor) -> None:
    """Write `open_clip_config.json` and fp16 `open_clip_model.safetensors`, each replaced in one step.

    Tokens never met in training keep the noise they were initialised with; it is set to zero (`known_tokens`: bool,
    one per token), so that a word unknown to the model says nothing instead of something arbitrary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS_CFG}
    half = {
        name: value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in weights.items()
    }
    half["token_embedding.weight"] = half["token_embedding.weight"] * known_tokens.cpu()[:, None]
    partial = folder / "open_clip_model.safetensors.partial"
    save_file(half, partial, metadata={"format": "pt"})
    # safetensors creates files for their owner only.
    partial.chmod(0o644)
    partial.replace(folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
