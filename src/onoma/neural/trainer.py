"""The one training loop: schedule, early stopping, log, checkpoints, exact resume."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from onoma.errors import OnomaError
from onoma.neural.checkpoint import Checkpoint, optimiser_tensors, restore_optimiser
from onoma.neural.noise import Noise


class TrainSettings(BaseModel):
    """How long, how fast, and when to stop.

    Attributes:
        epochs: passes over the data at most; also the length of the cosine schedule.
        batch_tokens: sequence positions a batch.
        lr: peak learning rate (AdamW, betas .9 and .98).
        warmup: share of all steps with a rising rate.
        weight_decay: on matrices only.
        clip: largest gradient norm.
        valid_every: epochs between validations.
        patience: validations without a better figure before stopping.
        checkpoint_seconds: seconds between checkpoints inside an epoch.
        trackers: where else the log goes: ``tensorboard``, ``mlflow``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=20, ge=1)
    batch_tokens: int = Field(default=2048, ge=2)
    lr: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    valid_every: int = Field(default=2, ge=1)
    patience: int = Field(default=4, ge=1)
    checkpoint_seconds: float = Field(default=20.0, ge=0)
    trackers: tuple[str, ...] = ()


class Task(Protocol):
    """What the trainer asks of a model's recommender.

    A task that is judged by something else than NDCG@10 says so in ``judged``, as ``auc``.
    """

    def plan(self, seed: int, epoch: int) -> Sequence[Any]:
        """The batches of one epoch, a pure function of its arguments."""

    def loss(self, batch: Any) -> Tensor:
        """Scalar mean loss of one batch."""

    def validate(self) -> float:
        """NDCG@10 over all validation cases, or what ``judged`` names; higher is better."""


class Trainer:
    """Trains a module and leaves the best validated weights in it.

    Args:
        settings: the schedule.
        seed: the run's seed; batches and noise are functions of it and the step.
        folder: where ``checkpoint.safetensors`` and ``log.jsonl`` go; None keeps nothing.
        quiet: no progress bar.

    A model may have ``rates``, factors of the learning rate by the first part of parameter names.

    Everything random is a function of (seed, step), so the state of a run is its weights, its
    optimiser and its step: a run killed at any moment and resumed ends with the same bits.
    """

    def __init__(
        self,
        settings: TrainSettings,
        seed: int = 0,
        folder: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self.settings, self.seed, self.folder, self.quiet = settings, seed, folder, quiet
        self.history: list[dict[str, Any]] = []

    def fit(self, model: nn.Module, noise: Noise, task: Task) -> dict[str, Any]:
        """Run to the end or to early stopping.

        Returns:
            ``best_epoch``, ``valid_ndcg@10`` (or what the task is judged by), ``epochs``,
            ``steps``, ``seconds``, ``seconds_to_best``.

        Raises:
            OnomaError: the loss is not finite, or the checkpoint belongs to other settings.
        """
        settings = self.settings
        optimiser = _adamw(model, settings)
        # What rests in this stage may still hold gradients of the one before.
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        total = max(1, len(task.plan(self.seed, 0)) * settings.epochs)
        state = _State()
        judged = f"valid_{getattr(task, 'judged', 'ndcg@10')}"
        best: dict[str, Tensor] = {}
        fingerprint = self._fingerprint(model)
        saved = self.folder / "checkpoint.safetensors" if self.folder else None
        if saved is not None and saved.exists():
            best = self._restore(saved, model, optimiser, state, fingerprint)
        self._open_log(state.rows)
        started = time.monotonic() - state.seconds
        last_save = time.monotonic()

        def save() -> None:
            if saved is None:
                return
            state.seconds = time.monotonic() - started
            tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
            tensors |= {f"best.{k}": v for k, v in best.items()}
            tensors |= optimiser_tensors(optimiser)
            Checkpoint(tensors, {**vars(state), "fingerprint": fingerprint}).save(saved)

        with self._progress(total, state.step) as show:
            while state.epoch < settings.epochs and not state.done:
                batches = task.plan(self.seed, state.epoch)
                model.train()
                for index in range(state.batch, len(batches)):
                    for group in optimiser.param_groups:
                        group["lr"] = (
                            settings.lr * group["rate"] * _rate(state.step, total, settings.warmup)
                        )
                    noise.at(self.seed, state.step)
                    optimiser.zero_grad(set_to_none=True)
                    loss = task.loss(batches[index])
                    value = float(loss.detach())
                    if not math.isfinite(value):
                        raise OnomaError(
                            f"the loss is {value} at step {state.step}",
                            where="training",
                            fix="Lower train.lr",
                        )
                    loss.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(learnt, settings.clip)
                    optimiser.step()
                    state.step, state.batch = state.step + 1, index + 1
                    state.loss += value
                    show(state, value)
                    if time.monotonic() - last_save > settings.checkpoint_seconds:
                        save()
                        last_save = time.monotonic()
                row: dict[str, Any] = {
                    "epoch": state.epoch + 1,
                    "step": state.step,
                    "loss": state.loss / max(1, len(batches)),
                    "lr": settings.lr * _rate(max(state.step - 1, 0), total, settings.warmup),
                }
                state.epoch, state.batch, state.loss = state.epoch + 1, 0, 0.0
                if state.epoch % settings.valid_every == 0 or state.epoch == settings.epochs:
                    model.eval()
                    with torch.no_grad():
                        row[judged] = task.validate()
                    if row[judged] > state.best:
                        state.best, state.best_epoch, state.stale = row[judged], state.epoch, 0
                        state.seconds_to_best = time.monotonic() - started
                        best = {k: v.detach().clone() for k, v in model.state_dict().items()}
                    else:
                        state.stale += 1
                        state.done = state.stale >= settings.patience
                row["seconds"] = round(time.monotonic() - started, 2)
                state.rows.append(row)
                self._log(row)
                save()
                last_save = time.monotonic()
        if best:
            model.load_state_dict(best)
        model.eval()
        self.history = state.rows
        return {
            "best_epoch": state.best_epoch,
            judged: state.best,
            "epochs": state.epoch,
            "steps": state.step,
            "seconds": time.monotonic() - started,
            "seconds_to_best": state.seconds_to_best,
        }

    def _fingerprint(self, model: nn.Module) -> str:
        shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
        settings = self.settings.model_dump(exclude={"checkpoint_seconds", "trackers"})
        text = json.dumps([settings, self.seed, shapes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _restore(
        self,
        path: Path,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        state: _State,
        fingerprint: str,
    ) -> dict[str, Tensor]:
        saved = Checkpoint.load(path)
        if saved.record.pop("fingerprint", None) != fingerprint:
            raise OnomaError(
                "the checkpoint belongs to other settings",
                where=str(path),
                fix="Use --fresh to start over, or --out to write elsewhere",
            )
        tensors = saved.tensors
        try:
            vars(state).update(saved.record)
            model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
            restore_optimiser(optimiser, tensors)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise OnomaError(
                "the checkpoint is damaged", where=str(path), fix="Use --fresh to start over"
            ) from error
        return {k[5:]: v for k, v in tensors.items() if k.startswith("best.")}

    def _open_log(self, rows: list[dict[str, Any]]) -> None:
        """Start the log with the rows the checkpoint knows; later ones were lost with the crash."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row) + "\n" for row in rows)

    def _log(self, row: dict[str, Any]) -> None:
        if self.folder is None:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
        for name in self.settings.trackers:
            _TRACKERS[name](self.folder, row)

    @contextmanager
    def _progress(self, total: int, done: int) -> Iterator[Callable[[_State, float], None]]:
        console = Console(stderr=True)
        if self.quiet or not (console.is_terminal or os.environ.get("ONOMA_PROGRESS")):
            yield lambda state, loss: None
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  valid {task.fields[best]:.4f}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            job = bar.add_task("training", total=total, completed=done, loss=0.0, best=0.0)
            yield lambda state, loss: bar.update(
                job, completed=state.step, loss=loss, best=max(state.best, 0.0)
            )


class _State:
    """Where a run is; all of it goes into the checkpoint."""

    def __init__(self) -> None:
        self.epoch = self.batch = self.step = self.best_epoch = self.stale = 0
        self.loss = self.seconds = self.seconds_to_best = 0.0
        self.best = -1.0
        self.done = False
        self.rows: list[dict[str, Any]] = []


def _rate(step: int, total: int, warmup: float) -> float:
    """Linear warm-up times a cosine that ends at zero."""
    rise = min(1.0, (step + 1) / max(1.0, warmup * total))
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


def _adamw(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    rates: dict[str, float] = getattr(model, "rates", {})
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = rates.get(name.split(".")[0], 1.0)
            decay = settings.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": decay, "rate": rate, "lr": settings.lr * rate}
            for (rate, decay), members in groups.items()
        ],
        betas=(0.9, 0.98),
        fused=True,
    )


def _tensorboard(folder: Path, row: dict[str, Any]) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise OnomaError("tensorboard is not installed", fix="pip install tensorboard") from error
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for key, value in row.items():
            writer.add_scalar(key, value, row["step"])


def _mlflow(folder: Path, row: dict[str, Any]) -> None:
    try:
        import mlflow
    except ImportError as error:
        raise OnomaError("mlflow is not installed", fix="pip install mlflow") from error
    name = folder.resolve().name
    if mlflow.active_run() is None:
        mlflow.start_run(run_name=name)
    metrics = {k.replace("@", "_at_"): v for k, v in row.items() if k not in ("epoch", "step")}
    mlflow.log_metrics(metrics, step=row["step"])


_TRACKERS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}
