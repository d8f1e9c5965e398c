"""Vectors behind an instruction, and fewer layers of a language model."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from onoma.errors import OnomaError
from onoma.language.opening import torch_model
from onoma.neural.frozen import LoraSettings
from onoma.neural.instructed import Instructed
from onoma.neural.shallow import keep_layers
from tiny import tiny_folder

pytest.importorskip("peft")
WORDS = "A user liked"


@pytest.fixture(scope="module")
def source():
    return torch_model(str(tiny_folder(4)))


@pytest.fixture
def trunk(source, monkeypatch):
    """In float32 while it learns, too."""
    monkeypatch.setattr("onoma.neural.narrow.matrix_dtype", lambda kind: torch.float32)
    torch.manual_seed(0)
    lora = LoraSettings(rank=2, dropout=0.0, targets=("gate_proj",))
    made = Instructed(source, WORDS, 4, lora=lora)
    for value in made.inside.updates.values():
        torch.nn.init.normal_(value, std=0.3)  # fresh updates change nothing
    return made.eval()


def whole(source, trunk, vectors):
    """Words and vectors in one pass; the states of the vectors."""
    tokens = torch.tensor(source.tokenizer(WORDS).input_ids)
    words = trunk.inside.embed(tokens)[None].expand(len(vectors), -1, -1)
    rows = torch.cat([words, vectors], dim=1)
    found = trunk.inside.lm.base_model(inputs_embeds=rows, use_cache=False).last_hidden_state
    return found[:, len(tokens) :]


def test_the_instruction_is_read_as_if_it_stood_in_every_row(source, trunk):
    vectors = torch.randn(3, 5, 32)
    expected = whole(source, trunk, vectors)
    for _ in range(2):  # what is kept is not used up
        assert torch.allclose(trunk(vectors), expected, atol=1e-4)
    assert torch.allclose(trunk(vectors[:1, :2]), expected[:1, :2], atol=1e-4)
    assert not torch.allclose(
        trunk.inside.lm.base_model(inputs_embeds=vectors).last_hidden_state, expected, atol=1e-2
    )


def test_what_is_learnt_reaches_the_instruction(source, trunk):
    """Gradients as of one pass; keys of old weights are forgotten."""
    vectors = torch.randn(2, 4, 32)
    trunk(vectors)
    trunk.train()
    weigh = torch.randn(2, 4, 32)
    ours, theirs = (
        torch.autograd.grad((weigh * found).sum(), list(trunk.inside.updates.values()))
        for found in (trunk(vectors), whole(source, trunk, vectors))
    )
    for mine, its in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, its, rtol=1e-3, atol=1e-3 * float(its.abs().max()))
    with torch.no_grad():
        for value in trunk.inside.updates.values():
            value += 0.5
    trunk.eval()
    assert torch.allclose(trunk(vectors), whole(source, trunk, vectors), atol=1e-4)


def test_depths_are_what_the_layers_say(trunk):
    """By hooks on the layers; behind the last stands the norm."""
    vectors, said = torch.randn(2, 3, 32), []
    trunk(vectors)
    layers = trunk.inside.lm.base_model.layers
    hooks = [layer.register_forward_hook(lambda *found: said.append(found[2])) for layer in layers]
    one, two = trunk.depths(vectors, 2)
    assert torch.allclose(one, said[1], atol=1e-5)
    assert torch.allclose(two, trunk.inside.lm.base_model.norm(said[3]), atol=1e-5)
    assert torch.allclose(two, trunk(vectors), atol=1e-5)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("spread", [False, True])
def test_dropped_layers_are_gone(source, spread):
    """The kept ones are the base's, and a cache has a place for each of them alone."""
    network = source.fresh()
    keep_layers(network, 2, spread=spread)
    kept, base = network.base_model.layers, source.network.base_model.layers
    assert [layer.self_attn.layer_idx for layer in kept] == [0, 1]
    for layer, old in zip(kept, (0, 2) if spread else (0, 1), strict=True):
        theirs = base[old].state_dict()
        assert all(torch.equal(v, theirs[name]) for name, v in layer.state_dict().items())
    found = network.base_model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=True)
    assert [layer.keys.shape[2] for layer in found.past_key_values.layers] == [3, 3]
    with pytest.raises(OnomaError, match="layers"):
        keep_layers(network, 3)
