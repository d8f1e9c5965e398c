"""No target is lost, none is trained twice, and padding stays small."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onoma.dataset import Ragged
from onoma.neural.batching import PrefixBatches, SequenceBatches

rows = st.lists(st.lists(st.integers(0, 99), max_size=30), min_size=1, max_size=20)


@given(rows, st.integers(1, 12), st.integers(8, 60))
def test_every_transition_once(sequences, length, tokens):
    batches = SequenceBatches(Ragged.from_rows(sequences), tokens, length)
    want = sorted((a, b) for row in sequences for a, b in zip(row, row[1:], strict=False))
    got = []
    for batch in batches.plan(0, 0):
        inputs, following = batches.tensors(batch, pad=100)
        assert inputs.shape == following.shape and inputs.shape[1] <= length
        assert inputs.numel() <= max(tokens, inputs.shape[1])
        known = following != 100
        assert (inputs[known] != 100).all() and (inputs[~known] == 100).all()
        got += list(zip(inputs[known].tolist(), following[known].tolist(), strict=True))
    assert sorted(got) == want


def test_plans_depend_on_seed_and_epoch_only():
    sequences = Ragged.from_rows([np.arange(n % 9 + 2) for n in range(200)])
    plans = [
        np.concatenate(SequenceBatches(sequences, 64).plan(seed, epoch)).tolist()
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2] and plans[0] != plans[3]


def test_padding_is_small_on_skewed_lengths():
    lengths = np.random.default_rng(0).zipf(1.6, 5000).clip(2, 50)
    batches = SequenceBatches(Ragged.from_rows([np.arange(n) for n in lengths]), 2048)
    cells = sum(batches.tensors(b, 99)[0].numel() for b in batches.plan(0, 0))
    assert cells < 1.15 * (lengths - 1).sum()


@given(rows, st.integers(1, 12), st.integers(1, 9), st.integers(1, 3))
def test_every_prefix_once_with_what_follows(sequences, length, size, following):
    batches = PrefixBatches(Ragged.from_rows(sequences), size, length, following)
    want = sorted(
        (owner, row[max(0, at - length) : at], row[at : at + following])
        for owner, row in enumerate(sequences)
        for at in range(1, len(row))
    )
    got = []
    for batch in batches.plan(0, 0):
        assert len(batch) <= size
        items, lengths, owners, targets = batches.tensors(batch, pad=100)
        for row in range(len(batch)):
            assert (items[row, lengths[row] :] == 100).all()
            after = targets[row][targets[row] != 100].tolist()
            got.append((int(owners[row]), items[row, : lengths[row]].tolist(), after))
    assert sorted(got) == want
