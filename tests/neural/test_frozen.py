"""What is trained around a frozen language model, and inside it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from onoma.errors import OnomaError
from onoma.language.opening import open_model, torch_model
from onoma.neural.frozen import Composer, FrozenModule, LoraSettings, by_length
from tiny import tiny_folder

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def source():
    return torch_model(str(tiny_folder()))


@pytest.fixture
def tuned(source):
    torch.manual_seed(0)
    return FrozenModule(source, lora=LoraSettings(rank=2, dropout=0.0))


def step(module, prompts, lr=0.1):
    loss = module.answer_loss(prompts)
    loss.backward()
    with torch.no_grad():
        for value in module.parameters():
            value -= lr * value.grad
            value.grad = None
    return float(loss.detach())


def test_padding_changes_no_state(source, tuned):
    composer = Composer(source.tokenizer)
    long, short = ["one two three four five six"], ["one two"]
    together = tuned.last(composer.compose([long, short]))
    assert torch.allclose(together[1], tuned.last(composer.compose([short]))[0], atol=1e-5)


def test_a_token_of_its_own_vector_reads_as_itself(source, tuned):
    """A slot that gets the vector of a word is that word."""
    composer = Composer(source.tokenizer)
    word = composer.tokens("two")
    plain = composer.compose([["one ", *word, " three"]])
    slotted = composer.compose([["one ", *([None] * len(word)), " three"]])
    soft = tuned.embed(torch.tensor(word))
    assert len(slotted.slots) == len(word)
    assert torch.allclose(tuned.last(slotted, soft), tuned.last(plain), atol=1e-5)
    assert not torch.allclose(tuned.last(slotted, soft * 0), tuned.last(plain), atol=1e-3)


def test_the_answer_alone_is_learnt(source, tuned):
    """The loss is the mean surprise at the answer's tokens, as transformers computes it."""
    composer = Composer(source.tokenizer)
    prompts = composer.compose([["a question"], ["another longer question"]], [["yes"], ["no no"]])
    labels = prompts.tokens.clone()
    at = torch.arange(labels.shape[1])
    labels[(at < prompts.answers[:, None]) | (at >= prompts.lengths[:, None])] = -100
    theirs = tuned.lm(input_ids=prompts.tokens, labels=labels).loss
    assert torch.allclose(tuned.answer_loss(prompts), theirs, atol=1e-5)


def test_what_is_written_is_what_step_by_step_reading_says(source, tuned):
    """Greedy, with prompts of several lengths together; a beam finds nothing less likely."""
    composer = Composer(source.tokenizer)
    asked = [["one two three four"], ["a"], ["Toy Story and"]]
    ends, tuned = {source.tokenizer.eos_token_id}, tuned.eval()
    said = tuned.write(composer.compose(asked), ends, 6)
    for prompt, tokens in zip(asked, said, strict=True):
        line = list(prompt)
        for token in tokens:
            assert int(tuned.logits(tuned.last(composer.compose([line]))).argmax()) == token
            line.append(token)
        assert len(tokens) == 6 or int(tuned.logits(tuned.last(composer.compose([line])))
                                       .argmax()) in ends  # fmt: skip
    wide = tuned.write(composer.compose(asked), ends, 6, beam=4)
    for prompt, greedy, best in zip(asked, said, wide, strict=True):
        if len(greedy) == len(best) == 6:
            losses = [
                tuned.answer_loss(composer.compose([prompt], [row])) for row in (best, greedy)
            ]
            assert losses[0] <= losses[1] + 1e-5


def test_only_updates_are_trained_and_kept(source, tuned):
    composer = Composer(source.tokenizer)
    before = {name: value.clone() for name, value in tuned.lm.named_parameters()}
    prompts = composer.compose([["who"]], [["me"]])
    losses = [step(tuned, prompts) for _ in range(8)]
    assert losses[-1] < losses[0]
    moved = {n for n, v in tuned.lm.named_parameters() if not torch.equal(v, before[n])}
    assert moved and all("lora_" in name for name in moved)
    assert set(tuned.state_dict()) == {f"updates.{name.replace('.', '/')}" for name in before
                                       if "lora_" in name}  # fmt: skip


def test_an_adapter_serves_the_prompted_recipes(source, tuned, tmp_path):
    """Saved updates, opened as a language model, answer as the tuned model does."""
    composer = Composer(source.tokenizer)
    for _ in range(8):
        step(tuned, composer.compose([["who"]], [["me"]]))
    tuned.save_adapter(tmp_path, "Learnt one answer.")
    opened = open_model({"model": str(tiny_folder()), "adapter": str(tmp_path), "cache": False})
    plain = open_model({"model": str(tiny_folder()), "cache": False})
    asked = composer.compose([["who"]], [["me"]])
    expected = -float(tuned.answer_loss(asked).detach()) * (len(composer.tokens("me")))
    found = opened.logprobs("who", ["me"]).logprobs[0]
    assert found == pytest.approx(expected, abs=1e-3)
    assert abs(plain.logprobs("who", ["me"]).logprobs[0] - expected) > 0.05
    assert opened.identity != plain.identity
    with tuned.untuned(), torch.no_grad():
        bare = -float(tuned.answer_loss(asked)) * len(composer.tokens("me"))
    assert plain.logprobs("who", ["me"]).logprobs[0] == pytest.approx(bare, abs=1e-3)
    assert all(value.requires_grad for value in tuned.parameters())
    assert "Learnt one answer." in (tmp_path / "README.md").read_text()


def test_a_model_with_an_adapter_is_trained_around_as_such(source, tuned, tmp_path):
    """What is trained around it begins where the adapter ended, and trains updates of its own."""
    composer = Composer(source.tokenizer)
    asked = composer.compose([["who"]], [["me"]])
    for _ in range(8):
        step(tuned, asked)
    tuned.save_adapter(tmp_path, "Learnt one answer.")
    opened = torch_model({"model": str(tiny_folder()), "adapter": str(tmp_path)})
    around = FrozenModule(opened, lora=LoraSettings(rank=2, dropout=0.0))
    assert around.source != source.identity
    ended = float(tuned.answer_loss(asked).detach())
    assert float(around.answer_loss(asked).detach()) == pytest.approx(ended, abs=1e-4)
    assert not any(value.requires_grad for value in opened.fresh().parameters())
    assert len(list(around.parameters())) == len(list(tuned.parameters()))
    step(around, asked)
    assert step(around, asked) < ended
    with around.untuned():
        assert float(around.answer_loss(asked).detach()) == pytest.approx(ended, abs=1e-4)


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_bad_adapter_is_named(source, tuned, tmp_path, damage):
    tuned.save_adapter(tmp_path, "About.")
    path = tmp_path / "adapter_model.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        config = tmp_path / "adapter_config.json"
        config.write_text(config.read_text().replace("q_proj", "nowhere"))
    with pytest.raises(OnomaError, match="adapter|fit"):
        opened = open_model({"model": str(tiny_folder()), "adapter": str(tmp_path)})
        opened.logprobs("who", ["me"])


def test_fewer_layers(source):
    short = FrozenModule(source, layers=1)
    assert len(short.lm.base_model.layers) == 1
    assert len(source.network.base_model.layers) > 1
    with pytest.raises(OnomaError, match="layers"):
        FrozenModule(source, layers=99)
    with pytest.raises(OnomaError, match="targets"):
        FrozenModule(source, lora=LoraSettings(targets=("nothing",)))


def test_batches_hold_every_row_once():
    lengths = [5, 1, 9, 9, 2, 40]
    batches = by_length(lengths, 20)
    assert sorted(row for batch in batches for row in batch) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(lengths[r] for r in b) <= 20 for b in batches)


def test_it_learns_in_bf16_and_answers_as_before(source, monkeypatch):
    """Frozen layers are narrow while updates learn; the answers of float32 come back to the bit."""
    monkeypatch.setattr("onoma.neural.narrow.matrix_dtype", lambda kind: torch.bfloat16)
    module = FrozenModule(source, lora=LoraSettings(rank=2, dropout=0.0))
    prompts = Composer(source.tokenizer).compose([["who"]], [["me"]])
    module.eval()
    with torch.no_grad():
        before = module.read(prompts)
    module.train()
    kinds = {p.dtype for n, p in module.lm.named_parameters() if "lora_" in n or "embed" in n}
    assert kinds == {torch.float32}
    assert module.lm.base_model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    states = module.read(prompts)
    assert states.dtype == torch.float32 and not torch.equal(states, before)
    torch.testing.assert_close(states, before, atol=0.1, rtol=0.1)
    module.answer_loss(prompts).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())
    module.eval()
    with torch.no_grad():
        assert torch.equal(module.read(prompts), before)
