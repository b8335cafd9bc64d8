"""Very small OpenCLIP models with random weights, saved in `local-dir:` form. Made on the spot: nothing is downloaded."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

from tests.unit.adapters.tiny_parts import HF_TEXT_CONFIGS, save_unigram, save_wordpiece

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
TEXT_CFG: dict[str, Any] = MODEL_CFG["text_cfg"]
# SigLIP's text tower reads all of its padded text, to both sides, and pools at the last token.
SIGLIP_TEXT_CFG: dict[str, Any] = {
    **TEXT_CFG,
    "vocab_size": 300,
    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}


def _timm(name: str, pool: str, proj: str | None, text_cfg: dict[str, Any] = TEXT_CFG, **others: Any) -> dict[str, Any]:
    vision = {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": 32}
    return {"embed_dim": 32, "custom_text": True, "vision_cfg": vision, "text_cfg": text_cfg, **others}


def _hf(name: str, pooler: str, **others: Any) -> dict[str, Any]:
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_pooler_type": pooler, "context_length": 16}
    return {"embed_dim": 32, "vision_cfg": MODEL_CFG["vision_cfg"], "text_cfg": {**text, **others}}


FAMILIES: dict[str, dict[str, Any]] = {
    "CLIP": MODEL_CFG,
    "CLIP-quickgelu": {**MODEL_CFG, "quick_gelu": True},
    "CustomTextCLIP": CUSTOM_CFG,
    "RN50": {
        **MODEL_CFG,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "patch_size": None},
    },
    "ConvNeXt": {**_timm("tiny_convnext", "", "linear"), "custom_text": False},
    "EVA02": _timm("tiny_eva02", "token", None),
    "CoCa": COCA_CFG,
    "SigLIP": _timm("tiny_siglip", "map", "none", SIGLIP_TEXT_CFG, init_logit_bias=-10),
    "SigLIP2": _timm(
        "tiny_siglip",
        "map",
        "none",
        {
            **SIGLIP_TEXT_CFG,
            "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2",
            "act_kwargs": {"approximate": "tanh"},
        },
        init_logit_bias=-10,
    ),
    "MobileCLIP2-S": _timm("tiny_fastvit", "avg", None, {**TEXT_CFG, "no_causal_mask": True}),
    "MobileCLIP2-B": _timm("tiny_mci", "token", None),
    "PE-Core": _timm("tiny_pe_core", "map", None),
    "worldwide": {
        **MODEL_CFG,
        "text_cfg": {
            **TEXT_CFG,
            "vocab_size": 300,
            "hf_tokenizer_name": "facebook/xlm-v-base",
            "pool_type": "eos",
            "eos_id": 2,
        },
    },
    "CLIPS": {
        **CUSTOM_CFG,
        "text_cfg": {
            **TEXT_CFG,
            "vocab_size": 300,
            "hf_tokenizer_name": "bert-base-uncased",
            "tokenizer_mode": "clips",
            "pool_type": "last",
            "no_causal_mask": True,
        },
    },
    "XLM-RoBERTa": _hf("xlm-roberta-base", "mean_pooler"),
    "BERT": _hf("bert-base-uncased", "cls_pooler", hf_proj_type="linear"),
    "NLLB": _hf("facebook/nllb-200-distilled-600M", "cls_pooler", hf_proj_type="linear"),
    "mT5": _hf("google/mt5-base", "mean_pooler"),
}
"""Every kind of model that OpenCLIP has, very small. All take pictures of 32 by 32 pixels and texts of 16 tokens."""
HF_FAMILIES = [name for name, model_cfg in FAMILIES.items() if "hf_model_name" in model_cfg["text_cfg"]]
"""Those whose text tower is one of `transformers`."""

TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "timm/ViT-B-16-SigLIP": lambda folder: save_unigram(folder, "siglip"),
    "timm/ViT-B-16-SigLIP2": lambda folder: save_unigram(folder, "siglip2"),
    "facebook/xlm-v-base": lambda folder: save_unigram(folder, "xlm-roberta"),
    "xlm-roberta-base": lambda folder: save_unigram(folder, "xlm-roberta"),
    "facebook/nllb-200-distilled-600M": lambda folder: save_unigram(folder, "nllb"),
    "google/mt5-base": lambda folder: save_unigram(folder, "mt5"),
    "bert-base-uncased": save_wordpiece,
}
TEXT_CONFIGS = {
    "xlm-roberta-base": "xlm-roberta",
    "bert-base-uncased": "bert",
    "facebook/nllb-200-distilled-600M": "m2m_100",
    "google/mt5-base": "mt5",
}
PREPROCESS_CFG: dict[str, Any] = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def save_checkpoint(folder: Path, model_cfg: dict[str, Any] = MODEL_CFG, *, seed: int = 0) -> Path:
    """Writes the config, open_clip_model.safetensors and whatever files the tokeniser and the text tower need.

    Returns the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text_cfg = model_cfg["text_cfg"]
    if "hf_tokenizer_name" in text_cfg:
        TOKENIZERS[text_cfg["hf_tokenizer_name"]](folder)
    if "hf_model_name" in text_cfg:
        text_config = HF_TEXT_CONFIGS[TEXT_CONFIGS[text_cfg["hf_model_name"]]]
        (folder / "config.json").write_text(json.dumps(text_config))
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(random_weights(local(model_cfg, folder), seed), folder / "open_clip_model.safetensors")
    return folder


def local(model_cfg: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config with the text tower's own found in the folder, where OpenCLIP would ask the hub by its name."""
    if "hf_model_name" not in model_cfg["text_cfg"]:
        return model_cfg
    return {**model_cfg, "text_cfg": {**model_cfg["text_cfg"], "hf_model_name": str(folder)}}


def random_weights(model_cfg: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict whose every value is random: also what starts as ones or zeros (norms, biases, running statistics)."""
    config = deepcopy(model_cfg)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = kind(**config).state_dict()
    return {name: _shaken(value) for name, value in state.items()}


def _shaken(value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point() or value.ndim == 0:
        return value.clone()
    return (value * (1 + 0.1 * torch.rand_like(value)) + 0.01 * torch.rand_like(value)).contiguous()
