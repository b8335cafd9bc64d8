"""Checkpoints of OpenCLIP's architectures with random weights, in `local-dir:` form. Made on the spot; nothing is downloaded.

Shapes come from the true architecture on torch's meta device, values are drawn tensor by tensor, and a file is written as they
come: the largest architecture needs no more memory than its largest tensor. Whoever measures speed or memory, or compares two
implementations, needs no trained weights for it.

OpenCLIP's own initial values would make the comparison of two implementations weak: some projections and layer scales begin at
(or near) zero, and whatever lies behind them would not count; other towers give nearly one vector for everything. So kernels and
embeddings are drawn with the variance 1/fan-in, which keeps the size of activations; matrices a little larger, so that attention
looks somewhere; scales lie around one; biases are drawn too, because a bias of zero hides that it was forgotten. Batch norms get
the means and variances that drawn pictures give them: with any others, a deep stack of ReLUs maps all pictures to one vector.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import M2M100Config, PreTrainedConfig, PreTrainedTokenizerFast, XLMRobertaConfig

CONFIG_NAME, WEIGHTS_NAME = "open_clip_config.json", "open_clip_model.safetensors"
# What the hub's config.json of these text models says, as far as it shapes the tower; a checkpoint carries it with itself.
TEXT_CONFIGS: Mapping[str, PreTrainedConfig] = {
    "xlm-roberta-base": XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3_072,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    ),
    "xlm-roberta-large": XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=1_024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4_096,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    ),
    "facebook/nllb-200-distilled-600M": M2M100Config(
        vocab_size=256_206,
        d_model=1_024,
        encoder_layers=12,
        decoder_layers=12,
        encoder_attention_heads=16,
        decoder_attention_heads=16,
        encoder_ffn_dim=4_096,
        decoder_ffn_dim=4_096,
        scale_embedding=True,
    ),
}
SAFETENSORS_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
MATRIX_GAIN = 1.4
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")  # XLM-RoBERTa's and NLLB's ids: 0, 1, 2, 3


def write_architecture(folder: Path, architecture: str, dtype: torch.dtype = torch.float32) -> dict[str, int]:
    """The checkpoint of an architecture that OpenCLIP knows, by its first tag's way with pictures. Parameters of each part."""
    model_cfg = open_clip.get_model_config(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    preprocess_cfg = get_pretrained_cfg(architecture, tags[0]) if tags else {}
    return write_checkpoint(folder, model_cfg, preprocess_cfg, dtype)


def write_checkpoint(
    folder: Path,
    model_cfg: Mapping[str, Any],
    preprocess_cfg: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    text_config: PreTrainedConfig | None = None,
) -> dict[str, int]:
    """Config, weights and, where the tokeniser is Hugging Face's, tokeniser files. Parameters of each part (`parameters_of`).

    `text_config`: of a Hugging Face text model, where `text_cfg.hf_model_name` is none of TEXT_CONFIGS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = deepcopy(dict(model_cfg))
    text_cfg = config["text_cfg"]
    if "hf_model_name" in text_cfg:
        (text_config or TEXT_CONFIGS[text_cfg["hf_model_name"]]).save_pretrained(folder)
        # A path instead of the hub's name: OpenCLIP asks the hub for the config of the text model otherwise.
        text_cfg.update(hf_model_name=str(folder), hf_model_pretrained=False)
    if "hf_tokenizer_name" in text_cfg:
        byte_tokenizer(text_cfg.get("context_length", 77)).save_pretrained(folder)
    kept = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    way = {key: preprocess_cfg[key] for key in kept if preprocess_cfg.get(key) is not None}
    (folder / CONFIG_NAME).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": way}), encoding="utf-8")
    model = on_meta(config)
    write_weights(folder / WEIGHTS_NAME, model.state_dict(), dtype)
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        settle_batch_norms(folder)
    return parameters_of(model)


def on_meta(model_cfg: Mapping[str, Any]) -> Any:
    """The model without memory for its parameters: names, shapes and types are true, values there are none."""
    config = deepcopy(dict(model_cfg))
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with torch.device("meta"):
        return kind(**config)


def parameters_of(model: Any) -> dict[str, int]:
    """How many parameters the `image` and the `text` tower have. CoCa's captioning part is in neither: it is never loaded."""
    counts = {"image": 0, "text": 0}
    for name, parameter in model.named_parameters():
        if not name.startswith("text_decoder."):
            counts["image" if name.startswith("visual.") else "text"] += parameter.numel()
    return counts


def write_weights(file: Path, shapes: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """A safetensors file of random values: the length of its header, the header (JSON), the tensors one after the other."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        of = dtype if shape.is_floating_point() else shape.dtype
        begin, end = end, end + shape.numel() * of.itemsize
        header[name] = {"dtype": SAFETENSORS_NAMES[of], "shape": list(shape.shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of eight bytes
    with file.open("wb") as out:
        out.write(len(encoded).to_bytes(8, "little") + encoded)
        for values in _drawn(shapes, dtype):
            out.write(values.reshape(-1).view(torch.uint8).numpy().data)


def _drawn(shapes: Mapping[str, torch.Tensor], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    for name, shape in shapes.items():
        yield drawn(name, shape.shape).to(dtype) if shape.is_floating_point() else torch.zeros_like(shape, device="cpu")


def drawn(name: str, shape: torch.Size) -> torch.Tensor:
    """Random values for a parameter, the same for the same name and shape; see the head of this file."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last in ("logit_scale", "logit_bias"):  # of shape [] or [1]
        return torch.full(shape, math.log(1 / 0.07) if last == "logit_scale" else -10.0)
    noise = torch.randn(shape, generator=generator)
    fan_in = shape.numel() // shape[0]
    if fan_in > 1:
        is_matrix = len(shape) == 2 and "embed" not in name
        return noise.mul_((MATRIX_GAIN if is_matrix else 1) / math.sqrt(fan_in))
    if last in ("weight", "gamma", "running_var"):  # of norms, layer scales, and 1×1 convolutions of single channels
        return noise.mul_(0.1).clamp_(-0.5, 0.5).add_(1)
    return noise.mul_(0.1)


@torch.no_grad()
def settle_batch_norms(folder: Path) -> None:
    """Sets the running means and variances of a checkpoint to what they are for eight pictures of coloured clouds."""
    model = open_clip.create_model(f"local-dir:{folder}")
    for norm in (module for module in model.visual.modules() if isinstance(module, _BatchNorm)):
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, of which there is one
        norm.train()
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    clouds = torch.randn((8, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    size_px = (size, size) if isinstance(size, int) else tuple(size)
    model.visual(torch.nn.functional.interpolate(clouds, size=size_px, mode="bicubic"))
    save_file(model.state_dict(), folder / WEIGHTS_NAME)


def byte_tokenizer(context_length: int) -> PreTrainedTokenizerFast:
    """A token for each byte: reads every language, needs no corpus, and its ids fit any vocabulary of 260 tokens or more."""
    tokens = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    ids = {token: at for at, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    begin, pad, end, unknown = SPECIAL_TOKENS
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, ids[begin]), (end, ids[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=context_length,
        bos_token=begin,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
    )
