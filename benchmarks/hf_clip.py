"""An OpenCLIP ViT checkpoint in the layout of Hugging Face's CLIPModel, for peers that read nothing else.

    .venv/bin/python -m benchmarks.hf_clip CHECKPOINT FOLDER

Only the plain CLIP architecture (a ViT and OpenCLIP's causal text transformer) has such a layout; others are refused. The
vectors of both are the same: `largest_difference` in the test and in `benchmarks.peers --setup` says how nearly.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file

from benchmarks.random_checkpoints import CONFIG_NAME, WEIGHTS_NAME

RENAMED = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # the spelling is transformers'
    "visual.ln_post": "vision_model.post_layernorm",
}
BLOCKS = {
    "transformer.resblocks": "text_model.encoder.layers",
    "visual.transformer.resblocks": "vision_model.encoder.layers",
}
IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def convert(checkpoint: Path, folder: Path) -> Path:
    """Write config, weights, tokeniser and preprocessor of a `local-dir:` checkpoint into `folder`, which is returned.

    Raises ValueError for an architecture that CLIPModel does not have.
    """
    described = json.loads((checkpoint / CONFIG_NAME).read_text(encoding="utf-8"))
    model_cfg, preprocess_cfg = described["model_cfg"], described["preprocess_cfg"]
    config = clip_config(model_cfg)
    folder.mkdir(parents=True, exist_ok=True)
    state = load_file(checkpoint / WEIGHTS_NAME)
    converted = {name: value.contiguous().clone() for name, value in clip_state(state)}
    save_file(converted, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", preprocessor_config(model_cfg, preprocess_cfg))
    write_tokenizer(folder, config["text_config"]["max_position_embeddings"])
    return folder


def clip_state(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of CLIPModel from those of open_clip.CLIP. Raises ValueError for a parameter without a place."""
    for name, value in state.items():
        if name == "attn_mask":
            continue  # Built anew by whoever loads the model.
        if name == "visual.proj":
            yield "visual_projection.weight", value.T
        elif name == "text_projection":
            yield "text_projection.weight", value.T
        elif block := next((block for block in BLOCKS if name.startswith(f"{block}.")), None):
            number, _, inner = name.removeprefix(f"{block}.").partition(".")
            yield from _in_block(f"{BLOCKS[block]}.{number}", inner, value)
        else:
            stem = next((known for known in RENAMED if name == known or name.startswith(f"{known}.")), None)
            if stem is None:
                raise ValueError(f"CLIPModel has no place for {name}")
            yield RENAMED[stem] + name.removeprefix(stem), value


def _in_block(block: str, inner: str, value: Any) -> Iterator[tuple[str, Any]]:
    if inner.startswith("attn.in_proj_"):  # Queries, keys and values are one matrix there and three here.
        for part, rows in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
            yield f"{block}.self_attn.{part}.{inner.removeprefix('attn.in_proj_')}", rows
        return
    stem, _, kind = inner.rpartition(".")
    if stem not in IN_BLOCK:
        raise ValueError(f"CLIPModel has no place for {inner} in a block")
    yield f"{block}.{IN_BLOCK[stem]}.{kind}", value


def clip_config(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of CLIPModel. Raises ValueError for what is no plain CLIP."""
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if model_cfg.get("custom_text") or "timm_model_name" in vision or isinstance(vision["layers"], list):
        raise ValueError("only CLIP with a ViT and OpenCLIP's own text transformer has the layout of CLIPModel")
    activation = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    end_of_text = SimpleTokenizer().eot_token_id
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model_cfg["embed_dim"],
        "text_config": {
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text.get("mlp_ratio", 4.0)),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            "projection_dim": model_cfg["embed_dim"],
            "hidden_act": activation,
            "bos_token_id": end_of_text - 1,
            "eos_token_id": end_of_text,
            "pad_token_id": end_of_text,
        },
        "vision_config": {
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "projection_dim": model_cfg["embed_dim"],
            "hidden_act": activation,
        },
    }


def preprocessor_config(model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """preprocessor_config.json of CLIPImageProcessor. Raises ValueError for another resize mode than OpenAI's."""
    if preprocess_cfg.get("resize_mode", "shortest") != "shortest":
        raise ValueError("CLIPImageProcessor resizes the shorter side only")
    size = model_cfg["vision_cfg"]["image_size"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": {"bilinear": 2, "bicubic": 3}[preprocess_cfg.get("interpolation", "bicubic")],
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(preprocess_cfg.get("mean", OPENAI_DATASET_MEAN)),
        "image_std": list(preprocess_cfg.get("std", OPENAI_DATASET_STD)),
        "do_convert_rgb": True,
    }


def write_tokenizer(folder: Path, context_length: int) -> None:
    """vocab.json and merges.txt of CLIPTokenizer from OpenCLIP's own vocabulary: the two are the same byte pairs."""
    tokenizer = SimpleTokenizer()
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    # OpenCLIP names the marks otherwise; the numbers are the same.
    vocabulary = {_mark(word): number for word, number in tokenizer.encoder.items()}
    _write(folder / "vocab.json", vocabulary)
    _write(folder / "special_tokens_map.json", {**marks, "pad_token": "<|endoftext|>"})
    settings = {
        **marks,
        "pad_token": "<|endoftext|>",
        "model_max_length": context_length,
        "tokenizer_class": "CLIPTokenizer",
    }
    _write(folder / "tokenizer_config.json", settings)


def _mark(word: str) -> str:
    return {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}.get(word, word)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def largest_difference(checkpoint: Path, folder: Path, words: list[str]) -> dict[str, float]:
    """Largest difference of unit vectors between OpenCLIP and transformers: of random pixels, and of texts."""
    from transformers import CLIPModel, CLIPTokenizer

    plain = open_clip.create_model(f"local-dir:{checkpoint.resolve()}").eval()
    other = CLIPModel.from_pretrained(folder).eval()
    size = plain.visual.image_size[0]
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    ours_tokens = open_clip.get_tokenizer(f"local-dir:{checkpoint.resolve()}")(words)
    their_tokens = CLIPTokenizer.from_pretrained(folder)(words, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        pairs = {
            "image": (plain.encode_image(pixels), _pooled(other.get_image_features(pixel_values=pixels))),
            "text": (plain.encode_text(ours_tokens), _pooled(other.get_text_features(**their_tokens))),
        }
    normal = torch.nn.functional.normalize
    return {kind: float((normal(ours) - normal(theirs)).abs().max()) for kind, (ours, theirs) in pairs.items()}


def _pooled(features: Any) -> Any:
    """transformers 5 answers with an object, transformers 4 with the tensor."""
    return getattr(features, "pooler_output", features)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hf_clip", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a local-dir: folder of OpenCLIP")
    parser.add_argument("folder", type=Path, help="where the converted model is written")
    options = parser.parse_args()
    convert(options.checkpoint, options.folder)
    print(
        largest_difference(options.checkpoint, options.folder, ["a red boat", "two small birds above a wooden house"])
    )


if __name__ == "__main__":
    main()
