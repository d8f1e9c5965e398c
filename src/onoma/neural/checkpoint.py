"""Training state in one safetensors file, replaced in one step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onoma.dataset.files import replacing
from onoma.errors import OnomaError


@dataclass
class Checkpoint:
    """Tensors by name and a small JSON record.

    Attributes:
        tensors: ``model.*``, ``best.*`` and ``optimiser.<index>.<slot>``.
        record: step, epoch, best figures, fingerprint of the settings.
    """

    tensors: dict[str, Tensor]
    record: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write beside, sync, rename."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.tensors.items()}
        with replacing(path) as beside:
            save_file(tensors, beside, metadata={"record": json.dumps(self.record)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            OnomaError: the file is missing, cut short or not a checkpoint.
        """
        try:
            with safe_open(path, framework="pt") as handle:
                names = list(handle.keys())
                tensors = {name: handle.get_tensor(name) for name in names}
                record = json.loads((handle.metadata() or {}).get("record", "null"))
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise OnomaError(
                f"cannot read the weights ({error})",
                where=str(path),
                fix="Delete the file to start over, or take it from a backup",
            ) from error
        return cls(tensors, record or {})


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors."""
    return {
        f"optimiser.{index}.{slot}": value
        for index, slots in optimiser.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what :func:`optimiser_tensors` named."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".", 2)
            state.setdefault(int(index), {})[slot] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
