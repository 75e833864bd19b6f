"""What a file remembers of its compilation."""

import numpy as np
import pytest

from bnncc.errors import InputError
from bnncc.options import Options
from bnncc.passes.binary_weights import ZeroWeights
from bnncc.targets.tflite.precision import WeightsPrecision


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (2, 3, 4)])
def test_the_shape_of_what_is_stored_is_brought_back_to_nchw(channels_last: bool, shape: tuple[int, ...]) -> None:
    options = Options(channels_last=channels_last)
    array = np.arange(np.prod(shape)).reshape(shape)
    stored = options.as_stored(array)
    assert options.as_nchw(stored.shape) == shape
    expected = np.moveaxis(array, 1, -1) if channels_last and len(shape) == 4 else array
    np.testing.assert_array_equal(stored, expected)
    assert stored.flags.c_contiguous


def test_choices_may_be_given_in_the_command_lines_words() -> None:
    given = Options(zero_weights="plus-one", weights_precision="int8")  # type: ignore[arg-type]
    assert given == Options(zero_weights=ZeroWeights.PLUS_ONE, weights_precision=WeightsPrecision.INT8)
    with pytest.raises(InputError, match="replication: 'never' is none of 'auto'"):
        Options(replication="never")  # type: ignore[arg-type]
