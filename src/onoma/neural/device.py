"""What this machine can compute with."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from functools import cache

import torch


@cache
def device() -> torch.device:
    """CUDA when present, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def has_bf16(kind: str = "cpu") -> bool:
    """Whether bf16 matrix products run natively: CUDA from Ampere, CPUs with AVX512-BF16 or AMX."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as handle:
            lines = (line for line in handle if line.startswith("flags"))
            return frozenset(next(lines, "").split())
    except OSError:
        return frozenset()


def matrix_dtype(kind: str = "cpu") -> torch.dtype:
    """The dtype of large matrix products: bf16 where it is native, else float32."""
    return torch.bfloat16 if has_bf16(kind) else torch.float32


def autocast(kind: str = "cpu") -> AbstractContextManager[object]:
    """bf16 autocast where it is native, nothing elsewhere."""
    if has_bf16(kind):
        return torch.autocast(kind, torch.bfloat16)
    return contextlib.nullcontext()


def compute_dtype(like: torch.Tensor) -> torch.dtype:
    """The dtype that autocast computes products in, so that a step has no casts in between."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
