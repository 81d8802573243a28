import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.datasets.dataset import DataError, stratified_holdout


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_holdout_is_disjoint_complete_stratified_and_repeatable(sizes, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)
    room = sum(size - 1 for size in sizes)
    if room == 0:
        with pytest.raises(DataError, match="each class must keep one"):
            stratified_holdout(labels, 1, seed)
        return
    count = max(1, int(share * room))

    kept, held_out = stratified_holdout(labels, count, seed)

    assert len(held_out) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(len(labels)))
    taken = np.bincount(labels[held_out], minlength=len(sizes))
    exact = np.asarray(sizes) * count / len(labels)
    assert np.all(np.bincount(labels[kept], minlength=len(sizes)) >= 1)
    if np.all(np.floor(exact) + 1 <= np.asarray(sizes) - 1):
        assert np.all(np.abs(taken - exact) < 1)
    again = stratified_holdout(labels, count, seed)
    np.testing.assert_array_equal(again[0], kept)
    np.testing.assert_array_equal(again[1], held_out)


def test_another_seed_holds_out_other_images():
    labels = np.repeat(np.arange(10), 100).astype(np.int64)
    first, second = stratified_holdout(labels, 100, 0)[1], stratified_holdout(labels, 100, 1)[1]
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("count", [0, -1, 5])
def test_impossible_counts_are_refused(count):
    with pytest.raises(DataError, match=f"cannot hold out {count} of 4 images"):
        stratified_holdout(np.array([0, 0, 1, 1], np.int64), count, 0)
