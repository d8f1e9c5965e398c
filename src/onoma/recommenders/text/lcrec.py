"""LC-Rec: a causal language model tied to names by a mixture of alignment tasks."""

from __future__ import annotations

from typing import Any

from pydantic import Field

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
        lora: rank of the updates that are trained in place of a checkpoint's own weights; 0
            trains all. Without a checkpoint everything is trained.
    """

    prompts: str = "lcrec"
    lora: int = Field(default=8, ge=0)


class LCRec(TextRecommender):
    """Collaborative semantics in a language model (Zheng et al., LC-Rec, ICDE 2024).

    Names are quantised from content; the mixture asks for the next name, for names by title,
    description or intention and back, for the next title, and for what a user looks for.
    """

    name = "lcrec"
    settings_type = LCRecSettings
    settings: LCRecSettings

    def _configure(self, size: int | None) -> Any:
        settings = self.settings
        if settings.checkpoint is not None:
            return checkpoint_config(settings.checkpoint)
        return small_config(
            self.vocabulary.base, settings.width, settings.layers, settings.heads, settings.inner
        )

    def _module(self, config: Any, n_items: int, checkpoint: str | None) -> TextModule:
        settings = self.settings
        return CausalModule(
            config, self.vocabulary.base, self.spelling.new, n_items, settings.dropout,
            checkpoint, settings.lora if settings.checkpoint else 0,
        )  # fmt: skip

    def _restored(self, about: dict[str, Any]) -> Any:
        return restored_config(about)
