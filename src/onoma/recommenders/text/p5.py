"""P5: recommendation tasks as text to text, one encoder-decoder for all of them."""

from __future__ import annotations

from typing import Any, ClassVar

from onoma.recommenders.text.base import TextRecommender, TextSettings
from onoma.recommenders.text.module import TextModule
from onoma.recommenders.text.t5 import T5Module, checkpoint_config, restored_config, small_config


class P5Settings(TextSettings):
    """A text recommender over T5.

    Attributes:
        whole_words: whether the tokens of a word or a name share a vector.
    """

    whole_words: bool = True


class P5(TextRecommender):
    """Text in, text out (Geng et al., RecSys 2022), with the names of Hua et al. (SIGIR-AP 2023).

    Five families of tasks share one T5 and one loss: rating, the next item, explanation, the
    headline of a review, and direct recommendation.
    """

    name = "p5"
    settings: P5Settings
    settings_type: ClassVar[type[P5Settings]] = P5Settings

    def _configure(self, size: int | None) -> Any:
        settings = self.settings
        if (checkpoint := self.checkpoint) is not None:
            return checkpoint_config(checkpoint, size)
        assert size is not None
        return small_config(
            size, settings.width, settings.layers, settings.heads, settings.inner,
            settings.dropout,
        )  # fmt: skip

    def _module(self, config: Any, n_items: int, checkpoint: str | None) -> TextModule:
        return T5Module(config, n_items, self.settings.whole_words, checkpoint)

    def _restored(self, about: dict[str, Any]) -> Any:
        return restored_config(about)
