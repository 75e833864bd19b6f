"""Which outputs name a class."""

import numpy as np
import pytest

from bnncc.inference.classes import class_count, same_classes


@pytest.mark.parametrize(("shape", "count"), [((4, 10), 10), ((1, 2), 2), ((4, 1), None), ((10,), None), ((), None)])
def test_logits_are_rows_of_two_numbers_or_more(shape: tuple[int, ...], count: int | None) -> None:
    assert class_count(shape) == count
    assert class_count((1, 10, 7, 7)) is None


def test_the_same_classes_are_the_largest_logits_of_every_image() -> None:
    logits = np.array([[1.0, 2.0, 0.0], [5.0, 4.0, 3.0]])
    assert same_classes(logits * 2 + 1, logits) is True
    assert same_classes(logits * [[1], [-1]], logits) is False
    assert same_classes(logits[:, :1], logits[:, :1]) is None
