"""LC-Rec: a causal language model tied to names by a mixture of alignment tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from onoma.dataset import Dataset, Split
from onoma.dataset.files import replacing
from onoma.language.folders import folder_hash
from onoma.neural.frozen import LoraSettings
from onoma.neural.lowrank import write_adapter
from onoma.recommenders.text.base import TextRecommender, TextSettings
from onoma.recommenders.text.causal import (
    CausalModule,
    checkpoint_config,
    restored_config,
    small_config,
)
from onoma.recommenders.text.module import TextModule


class LCRecSettings(TextSettings):
    """A text recommender over a causal model.

    Attributes:
        lora: the low-rank updates that are trained in place of a checkpoint's own weights; None
            trains all. Without a checkpoint everything is trained.
    """

    prompts: str = "lcrec"
    lora: LoraSettings | None = LoraSettings(alpha=32)


class LCRec(TextRecommender):
    """Collaborative semantics in a language model (Zheng et al., LC-Rec, ICDE 2024).

    Names are quantised from content; the mixture asks for the next name, for names by title,
    description or intention and back, for the next title, and for what a user looks for.
    """

    name = "lcrec"
    settings_type = LCRecSettings
    settings: LCRecSettings
    module: CausalModule
    _source: str  # says which language model the updates are of

    def _configure(self, size: int | None) -> Any:
        settings = self.settings
        if (checkpoint := self.checkpoint) is not None:
            return checkpoint_config(checkpoint)
        return small_config(
            self.vocabulary.base, settings.width, settings.layers, settings.heads, settings.inner
        )

    def _module(self, config: Any, n_items: int, checkpoint: str | None) -> TextModule:
        settings = self.settings
        return CausalModule(
            config, self.vocabulary.base, self.spelling.new, n_items, settings.dropout,
            checkpoint, settings.lora if settings.checkpoint else None,
        )  # fmt: skip

    def save(self, folder: str | Path) -> None:
        """Write the model, and where updates were trained, these as an adapter with its card.

        New tokens are no part of an adapter; their vectors lie beside it (``tokens.safetensors``,
        float32[new, width]).
        """
        super().save(folder)
        lora, place = self.settings.lora, Path(folder) / "adapter"
        if lora is None or self.settings.checkpoint is None:
            return
        about = (
            "LC-Rec by Onoma: recommends by naming items in new tokens, whose vectors are in "
            "`tokens.safetensors`; the updates mean little without these.\n\n"
            f"Training: {self.training.get('epochs', 0)} epochs; seed {self.seed}."
        )
        write_adapter(place, self.module.updates(), lora, self._source, about)
        with replacing(place / "tokens.safetensors") as beside:
            save_file({"new": self.module.new.weight.detach().cpu().contiguous()}, beside)

    def _build(self, split: Split) -> TextModule:
        if (checkpoint := self.checkpoint) is not None:
            checkpoint_config(checkpoint)  # what is no model is told before it is read whole
            self._source = f"torch:{folder_hash(Path(checkpoint))}"
        return super()._build(split)

    def _rebuild(self, folder: Path, dataset: Dataset, weights: dict[str, Tensor]) -> TextModule:
        config = folder / "adapter" / "adapter_config.json"
        if config.is_file():
            self._source = json.loads(config.read_text("utf-8"))["base_model_name_or_path"]
        return super()._rebuild(folder, dataset, weights)

    def _restored(self, about: dict[str, Any]) -> Any:
        return restored_config(about)
