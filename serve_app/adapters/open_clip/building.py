"""A model's modules, built without memory, and filled with the weights of one tower.

Promises OpenCLIP's own modules, values and types, bit for bit, while the other tower's weights never become resident: parameters
are built on torch's meta device, the file is mapped, and only what is kept is copied out of it.
"""

import ctypes
import gc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NamedTuple

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.factory import _set_model_device_and_precision as set_precision
from open_clip.hf_model import HFTextEncoder
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from open_clip.transformer import AttentionalPooler, LayerNormFp32
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from serve_app.adapters.checkpoint import Checkpoint
from serve_app.errors import ModelUnavailable

Tower = Literal["image", "text"]
# What old versions of `transformers` kept in a checkpoint, and OpenCLIP leaves out as well.
OBSOLETE = "text.transformer.embeddings.position_ids"
NAMED_KEYS = 3  # of a checkpoint that does not fit


class Scale(NamedTuple):
    """The model's own similarity: scale * cosine + bias. Of the checkpoint, never rounded to half precision."""

    scale: float
    bias: float | None


def load_tower(checkpoint: Checkpoint, tower: Tower, precision: str, device: str) -> tuple[Any, Scale]:
    """The model with `tower` loaded, in evaluation mode, and its scale. Let go of what is not of the tower.

    `precision` as OpenCLIP calls it: fp32, bf16, fp16. Raises ModelUnavailable for weights that do not fit.
    """
    model = build(checkpoint, precision)
    types = {name: value.dtype for name, value in model.state_dict().items()}
    state = _fitted(model, _stored(checkpoint.weights))
    _assign(model, state)
    scale = Scale(
        float(state["logit_scale"].float().exp()),
        float(state["logit_bias"].float()) if model.logit_bias is not None else None,
    )
    _copy_out(model, _is_of(tower), types, device)
    return model, scale


def build(checkpoint: Checkpoint, precision: str) -> Any:
    """OpenCLIP's modules in evaluation mode: parameters without memory, buffers (masks, tables of positions) as they are.

    The types are those of OpenCLIP's `create_model` with this precision, but for what it would fail on and for the embeddings of
    tokens: OpenCLIP keeps them in float32 and rounds what it looks up; rounded at once they give the same and are half as large.
    """
    config = deepcopy(dict(checkpoint.model_cfg))
    vision_cfg, text_cfg = config["vision_cfg"], config["text_cfg"]
    is_timm, is_hf = "timm_model_name" in vision_cfg, bool(text_cfg.get("hf_model_name"))
    if is_timm:
        vision_cfg["timm_model_pretrained"] = False
    if is_hf:
        text_cfg.update(hf_model_pretrained=False, hf_model_name=str(checkpoint.text_config_folder))
    custom = config.pop("custom_text", False) or is_hf
    kind = (
        open_clip.CoCa
        if custom and "multimodal_cfg" in config
        else open_clip.CustomTextCLIP
        if custom
        else open_clip.CLIP
    )
    config["cast_dtype"] = half = open_clip.get_cast_dtype(precision)
    try:
        with parameters_without_memory():
            model = kind(**deepcopy(config))
    except RuntimeError:
        # The stems of MobileCLIP-B and ViTamin run once while they are built. Their memory goes when weights are assigned.
        model = kind(**config)
    set_precision(model, None, precision, is_timm)
    if half is not None:
        _convert_the_rest(model, half)
    return model.eval()  # built in training mode, where one picture's vector depends on its neighbours


def _convert_the_rest(model: Any, half: torch.dtype) -> None:
    text = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):
        # OpenCLIP converts the linear layers alone, and the text tower then fails on its own embeddings.
        text.to(half)
    else:
        text.token_embedding.to(half)
    if getattr(text, "cls_emb", None) is not None:
        text.cls_emb.data = text.cls_emb.data.to(half)  # CoCa's own token, on which it fails too
    for part in model.visual.modules():
        if isinstance(part, AttentionalPooler):
            part.query.data = part.query.data.to(half)  # and on what its image tower asks its tokens
            for norm in (part.ln_q, part.ln_k):  # float32 as all norms are; a GPU does not take both types in one
                norm.__class__ = LayerNormFp32


@contextmanager
def parameters_without_memory() -> Iterator[None]:
    """What is built meanwhile has its parameters on the meta device, where filling them with random numbers costs nothing."""

    def to_meta(_: torch.nn.Module, __: str, parameter: torch.nn.Parameter) -> Any:
        return None if parameter.is_meta else torch.nn.Parameter(parameter.detach().to("meta"), requires_grad=False)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()


def release() -> None:
    """Let go of what nobody uses, and of its memory: while loading, the C library's heap has grown beyond what stays."""
    gc.collect()
    trim_heap()


def trim_heap() -> None:
    """Give free memory of the C library's heap back to the system; it keeps what the largest batch took."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _stored(file: Path) -> dict[str, torch.Tensor]:
    """The state dict of a file, mapped: its tensors take memory when they are read."""
    if file.suffix == ".safetensors":
        content: Any = load_file(file)
    else:
        # Files of before torch 1.6 are no archives, and cannot be mapped.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelUnavailable("the file of the weights holds no state dict")
    wrapped = next(iter(state)).startswith("module.")  # by a parallel training
    return {name.removeprefix("module.") if wrapped else name: value for name, value in state.items()}


def _fitted(model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What OpenCLIP's own load_checkpoint does to a state dict, without its one addition: no bias is made up."""
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):
        if name in state and getattr(model, name, None) is not None:
            state[name] = state[name].reshape(getattr(model, name).shape)
    if OBSOLETE in state and OBSOLETE not in model.state_dict():
        del state[OBSOLETE]
    resize_pos_embed(state, model)
    resize_text_pos_embed(state, model)
    return state


def _assign(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    misfits = [name for name, value in state.items() if name in shapes and value.shape != shapes[name]]
    if misfits:
        raise ModelUnavailable(f"the weights do not fit the architecture: of another shape {_some(misfits)}")
    found = model.load_state_dict(state, strict=False, assign=True)
    for what, names in (("missing", found.missing_keys), ("unexpected", found.unexpected_keys)):
        if names:
            raise ModelUnavailable(f"the weights do not fit the architecture: {what} {_some(names)}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_KEYS} more" if len(names) > NAMED_KEYS else ""
    return ", ".join(names[:NAMED_KEYS]) + more


def _is_of(tower: Tower) -> Callable[[str], bool]:
    if tower == "image":
        return lambda name: name.startswith("visual.")
    return lambda name: not name.startswith(("visual.", "text_decoder."))  # text_decoder: CoCa's captioning part


def _copy_out(model: Any, kept: Callable[[str], bool], types: Mapping[str, torch.dtype], device: str) -> None:
    """Own memory, in its own type, for what is kept; the rest stays a map of the file, which nobody reads."""
    copied = set()
    for name, value in model.state_dict(keep_vars=True).items():
        if kept(name) and id(value) not in copied:  # a tensor may have two names
            value.data = value.detach().to(device, types[name], copy=True, memory_format=torch.contiguous_format)
            copied.add(id(value))
