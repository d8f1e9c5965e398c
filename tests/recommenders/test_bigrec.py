"""BIGRec: the shared suite, then what is its own."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import Conformance

sys.path.insert(0, str(Path(__file__).parents[1]))
from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.tuned.bigrec import BIGRec
from tiny import tiny_folder

pytest.importorskip("peft")

SMALL = {"width": 16, "heads": 2, "train": {"epochs": 2, "valid_every": 2}}


def bigrec(epochs=1, **settings):
    settings = {
        "model": str(tiny_folder()), "samples": 24, "recent": 3, "longest": 8, "beam": 2,
        "batch": 8, "judged": 30, "sasrec": SMALL,
        "train": {"epochs": epochs, "lr": 1e-2, "valid_every": epochs}, **settings,
    }  # fmt: skip
    return BIGRec(quiet=True, **settings)


class TestBIGRec(Conformance):
    def make(self):
        return bigrec()


@pytest.fixture(scope="module")
def fitted(small_split):
    return bigrec().fit(small_split)


def test_a_title_in_full_is_found_at_no_distance(fitted, small_split):
    """Titles are read by the model as it was; the tuned one would put them elsewhere."""
    dataset = small_split.dataset
    titles = list(dataset.titles(np.arange(dataset.n_items)))
    states = fitted.states(titles)
    assert torch.allclose(states, fitted.module.titles, atol=1e-4)
    quoted = fitted.writer.composer.compose([['"', *fitted.writer.tokens(titles[0]), '"']])
    with torch.no_grad():
        tuned = fitted.module.last(quoted)[0]
    assert not torch.allclose(tuned, states[0], atol=1e-3)


def test_every_text_leads_to_items_and_the_nearest_comes_first(fitted, small_split):
    asked = Requests(Ragged.from_rows([[], [1, 2], [7]]), mask_seen=False)
    texts = fitted.written(asked)
    assert len(texts) == 3 and all(isinstance(text, str) for text in texts)
    far = torch.cdist(fitted.states(texts), fitted.module.titles)
    ranking = fitted.recommend(asked, 5, mode="written")
    assert np.array_equal(ranking.items[:, 0], far.argmin(1).numpy())
    assert (ranking.items >= 0).all() and (ranking.scores[:, 0] == 0).all()


def test_the_correction_is_the_papers_and_one_gamma_serves_all(fitted, small_split):
    asked = Requests.of(small_split.test)
    far = -fitted._scores(asked, "written")
    pull = fitted._scores(asked, "signal")
    beside = fitted.beside.score(asked)
    low, high = beside.amin(1, keepdim=True), beside.amax(1, keepdim=True)
    assert torch.allclose(pull, (beside - low) / (high - low), atol=1e-6)
    gamma = float(fitted.module.gamma)
    assert torch.allclose(fitted.score(asked), -far / (1 + pull) ** gamma, atol=1e-6)
    told = fitted.training["grounding"]
    assert told["gamma"] == pytest.approx(gamma)
    assert told["valid_ndcg@10"]["mixed"] >= told["valid_ndcg@10"]["written"]


def test_test_and_order_of_cases_do_not_choose_gamma(fitted, small_split):
    """Only validation does: without it the distances stay as they are."""
    nobody = small_split.valid.take(np.arange(0))
    blind = bigrec(signal="popularity").fit(replace(small_split, valid=nobody))
    assert float(blind.module.gamma) == 0 and blind.training["grounding"] == {}


def test_without_a_signal_there_is_one_mode(small_split):
    plain = bigrec(signal="none").fit(small_split)
    assert plain.modes == ("written",) and plain.beside is None
    assert plain.training["grounding"]["gamma"] == 0


def test_tuning_teaches_the_titles(small_split):
    model = bigrec(epochs=12, signal="none", lora={"rank": 8, "dropout": 0.0}, samples=48)
    losses = [row["loss"] for row in model.fit(small_split).training["history"]]
    assert losses[-1] < 0.7 * losses[0]


def test_a_killed_run_goes_on_to_the_same_bits(small_split, tmp_path, monkeypatch):
    whole = bigrec(epochs=3, signal="none", folder=tmp_path / "a").fit(small_split)
    broken = bigrec(epochs=3, signal="none", folder=tmp_path / "b")
    once = torch.optim.AdamW.step
    steps = []

    def stop(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return once(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            broken.fit(small_split)
    assert (tmp_path / "b" / "checkpoint.safetensors").is_file()
    again = bigrec(epochs=3, signal="none", folder=tmp_path / "b").fit(small_split)
    for model, folder in ((whole, "a"), (again, "b")):
        model.save(tmp_path / folder)
    names = ("adapter/adapter_model.safetensors", "model.safetensors")
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_language_model_is_told(fitted, small_split, tmp_path):
    fitted.save(tmp_path)
    path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": "torch:other"}))
    with pytest.raises(OnomaError, match="tuned on torch:other"):
        BIGRec.load(tmp_path, small_split.dataset)
