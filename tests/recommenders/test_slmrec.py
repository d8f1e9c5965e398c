"""SLMRec: the shared suite, then what is its own."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import Conformance
from conformance import fitted as shared
from torch.nn import functional as F

from onoma.dataset import Ragged
from onoma.errors import OnomaError
from onoma.recommenders.base import Requests
from onoma.recommenders.bridged.slmrec import SLMRec
from onoma.recommenders.bridged.soft import mean_square_one

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import tiny_folder

pytest.importorskip("peft")
SEQUENCE = {"width": 16, "blocks": 1, "heads": 1, "length": 20,
            "train": {"epochs": 2, "lr": 1e-2, "batch_tokens": 256}}  # fmt: skip
QUICK = {"epochs": 2, "batch_tokens": 128, "lr": 3e-3, "valid_every": 1}
PLAIN = {"distil": 0.0, "supervise": 0.0}


def slmrec(folder=None, **settings):
    settings = {
        "model": str(tiny_folder(4)), "layers": 2, "teacher": 4, "blocks": 2, "length": 8,
        "sequence": SEQUENCE, "train": QUICK, **settings,
    }  # fmt: skip
    return SLMRec(quiet=True, folder=folder, **settings)


class TestSLMRec(Conformance):
    def make(self):
        return slmrec()


@pytest.fixture
def fitted(small_split):
    return shared(TestSLMRec(), small_split).model


def test_the_student_alone_is_there_to_answer(fitted, small_split, tmp_path):
    fitted.save(tmp_path)
    again = SLMRec.load(tmp_path, small_split.dataset)
    assert again.teacher is None
    assert len(again.module.encoder.inside.lm.base_model.layers) == 2
    updated = {int(name.split("layers/")[1].split("/")[0])
               for name in again.module.encoder.inside.updates}  # fmt: skip
    assert updated == {0, 1}
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


def test_items_stay_the_sequence_model_s(fitted):
    ids = mean_square_one(fitted.sequence)
    for module in (fitted.module, fitted.teacher.module):
        assert torch.equal(module.ids[:-1], ids) and not module.ids[-1].any()
        assert "ids" not in dict(module.named_parameters())
    items = F.normalize(ids, dim=1)
    asked = Requests(Ragged.from_rows([[3, 4], [9]]), mask_seen=False)
    states = F.normalize(fitted.states(asked), dim=1)
    assert torch.allclose(fitted.score(asked), 14 * states @ items.T, atol=1e-4)


def test_the_loss_is_what_the_paper_adds_up(fitted, small_split):
    """Against a sum written down anew, row by row, over sequences of several lengths."""
    task = fitted._task(small_split)
    lengths = task.batches.windows.lengths
    rows = np.array([int(lengths.argmin()), int(lengths.argmax())])
    module, teacher = fitted.module, fitted.teacher.module
    items = F.normalize(module.ids[:-1], dim=1)
    told, places = 0.0, 0
    with torch.no_grad():
        for row in rows:
            line = torch.from_numpy(task.batches.windows[row].astype(np.int64))
            mine, its = (m.depths(line[None, :-1]) for m in (module, teacher))
            for target, place in zip(line[1:], range(len(line) - 1), strict=True):
                places += 1
                for block, head in enumerate([*module.heads, module.out]):
                    state, lesson = mine[block][0, place], its[block][0, place]
                    logits = 14 * items @ F.normalize(head(state), dim=0)
                    told += float(logits.logsumexp(0) - logits[target])
                    cosine = state @ lesson / (state.norm() * lesson.norm())
                    told += float(1 - cosine + 0.1 * (state - lesson).square().sum().sqrt())
        assert len(set(lengths[rows])) == 2
        assert float(task.loss(rows)) == pytest.approx(told / places, rel=0.02)


def test_the_lesson_brings_the_student_nearer(fitted, small_split):
    """Without it no teacher is trained, and the states stay further from this one's."""
    plain = slmrec(distil=0.0).fit(small_split)
    assert plain.teacher is None and "teacher" not in plain.training
    items = torch.arange(8)[None]

    def away(model):
        pairs = zip(model.module.depths(items), fitted.teacher.module.depths(items), strict=True)
        return sum(float((mine - its).norm(dim=2).mean()) for mine, its in pairs)

    with torch.no_grad():
        assert away(fitted) < away(plain)


def test_the_teacher_is_what_its_depth_alone_learns(fitted, small_split):
    """And it rests while the student learns."""
    deep = slmrec(layers=4, **PLAIN).fit(small_split)
    assert not len(deep.module.heads)
    theirs = fitted.teacher.module.state_dict()
    for name, value in deep.module.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_run_says_how_long_either_takes(fitted):
    told = fitted.training["latency_ms"]
    assert set(told) == {"teacher", "student"} and all(value > 0 for value in told.values())
    assert fitted.training["teacher"]["epochs"] == fitted.training["epochs"] == 2


def test_a_killed_run_goes_on_to_the_same_bits(fitted, small_split, tmp_path, monkeypatch):
    """Killed while the student learns."""
    after = 2 + sum(fitted.training[stage]["steps"] for stage in ("sequence", "teacher"))
    steps, once = [], torch.optim.AdamW.step

    def stop(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == after:
            raise KeyboardInterrupt
        return once(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            slmrec(tmp_path).fit(small_split)
    again = slmrec(tmp_path).fit(small_split)
    for name, value in fitted.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name
    assert not (tmp_path / "teacher" / "checkpoint.safetensors").exists()


def test_impossible_settings_are_told_before_anything_is_fitted(small_split):
    with pytest.raises(OnomaError, match="blocks"):
        slmrec(layers=3)
    with pytest.raises(OnomaError, match="teacher"):
        slmrec(teacher=3)
    assert slmrec(layers=3, **PLAIN).settings.layers == 3
    with pytest.raises(OnomaError, match="layers"):
        slmrec(layers=6, distil=0.0).fit(small_split)
