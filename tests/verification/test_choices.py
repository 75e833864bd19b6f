"""A choice of the file is another one of the network's only between elements that rounding makes equal."""

import numpy as np
import pytest

from bnncc.verification.steps import Choice

X = np.array([[1.0, 1.0 + 1e-7, 0.5], [2.0, 3.0, 3.5], [0.0, 0.0, 9.0]])
BOUND = np.full(X.shape, 1e-6)


@pytest.mark.parametrize("kept", [False, True])
def test_a_choice_is_near_where_its_elements_are(kept: bool) -> None:
    shape = (3, 1) if kept else (3,)
    choice = Choice(X, BOUND, np.reshape([1, 2, 2], shape), 1, np.asarray, np.asarray)
    distance, bound = choice.at(np.reshape([0, 1, 2], shape))
    assert (distance <= bound).reshape(-1).tolist() == [True, False, False]
    assert distance.reshape(-1)[1] == 0.5
    for outside in (-1, 3):
        distance, bound = choice.at(np.full(shape, outside))
        assert not np.any(distance <= bound)


def test_the_best_few_are_compared_place_by_place() -> None:
    choice = Choice(X, BOUND, np.array([[1, 0], [2, 1], [2, 0]]), 1, np.asarray, np.asarray)
    distance, bound = choice.at(np.array([[0, 1], [2, 0], [2, 1]]))
    assert (distance <= bound).tolist() == [[True, True], [False, False], [False, True]]


def test_what_the_file_stores_in_another_order_is_brought_back() -> None:
    x = np.arange(24, dtype=np.float64).reshape(1, 2, 3, 4)
    choice = Choice(
        x,
        np.zeros(x.shape),
        np.zeros((1, 1, 3, 4), np.int64),
        1,
        lambda a: np.moveaxis(a, 3, 1),
        lambda a: np.moveaxis(a, 1, 3),
    )
    found = np.zeros((1, 3, 4, 1), np.int32)
    found[0, 2, 1, 0] = 1
    distance, bound = choice.at(found)
    assert distance.shape == bound.shape == found.shape
    assert distance[0, 2, 1, 0] == 12
    assert np.count_nonzero(np.isfinite(distance)) == 1
