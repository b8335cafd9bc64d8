"""Which device and which precision a tower runs in. Asks torch what the machine has; knows no model."""

import torch

from serve_app.errors import ModelUnavailable

OPEN_CLIP_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""Our names of precisions and OpenCLIP's."""


def chosen_device(wanted: str) -> str:
    """`auto` becomes the GPU where there is one. Raises ModelUnavailable for a GPU that is not there."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable(f"the device {wanted} is asked for, and this process has no GPU")
    return wanted


def chosen_precision(wanted: str, device: str, *, sensitive: bool = False) -> str:
    """`auto` becomes bfloat16 where the device computes in it, else float32; float32 for a tower that is `sensitive` to it.

    Raises ModelUnavailable for an unknown one.
    """
    if wanted == "auto":
        return "bfloat16" if computes_in_bfloat16(device) and not sensitive else "float32"
    if wanted not in OPEN_CLIP_PRECISIONS:
        raise ModelUnavailable(f"there is no precision {wanted!r}; there are {', '.join(OPEN_CLIP_PRECISIONS)}")
    return wanted


def computes_in_bfloat16(device: str) -> bool:
    """Whether the chip multiplies bfloat16 faster than float32: a GPU since Ampere, a CPU with AMX or AVX512-BF16."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def compute_in(precision: str, device: str) -> None:
    """Let this process keep to a precision: a GPU's convolutions of float32 come as TF32, with 10 bits instead of 23."""
    if precision == "float32" and device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False
