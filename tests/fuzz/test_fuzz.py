"""Some random networks, compiled and proven (`make fuzz` takes more); and the ones that once failed."""

import hypothesis
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.check import check, check_network
from tests.fuzz.networks import Layer, Network, networks
from tests.fuzz.programs import Program, programs

CHUNKS = 6
NETWORKS = 96


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_networks_compile_to_files_that_compute_the_same(chunk: int) -> None:
    @hypothesis.seed(chunk)
    @settings(max_examples=NETWORKS // CHUNKS, phases=[Phase.generate])  # `make fuzz` shrinks what fails
    @given(st.one_of(networks(), programs()))
    def run(spec: Network | Program) -> None:
        check(spec)

    run()


def layer(binarizer: str, channels: int, kernel: tuple[int, int], stride: int = 1, **changes: object) -> Layer:
    """A layer with the most ordinary choices elsewhere."""
    plain: dict[str, object] = {
        "shift": False, "weights": "sign", "dilation": 1, "padding": (0, 0, 0, 0), "groups": 1, "repeat": 1,
        "pool": "none", "norm": False, "activation": "none", "shortcut": "none", "split": False,
    }  # fmt: skip
    return Layer(binarizer=binarizer, channels=channels, kernel=kernel, stride=stride, **{**plain, **changes})  # type: ignore[arg-type]


REGRESSIONS = {
    "negated channels of signs that are turned back from the mirrored frame": Network(
        (11, 1),
        80,
        (
            layer("twice", 36, (1, 1), groups=4, norm=True, weights="ste", split=True),
            layer(
                "sign",
                14,
                (3, 3),
                3,
                shift=True,
                padding=(1, 1, 1, 1),
                groups=2,
                repeat=2,
                norm=True,
                activation="hardtanh",
                weights="mean",
                split=True,
            ),
            layer(
                "ste",
                19,
                (2, 1),
                2,
                shift=True,
                padding=(1, 0, 2, 1),
                repeat=4,
                activation="relu",
                weights="mean",
                split=True,
            ),
        ),
        "binary",
        False,
        62,
    ),
    "a ReLU's zeros in front of a sign, through the affines of another ReLU": Network(
        (10, 9),
        21,
        (
            layer("negative scale", 58, (2, 3), padding=(2, 2, 1, 1), norm=True, activation="relu", weights="learnt"),
            layer("relu", 16, (2, 1), 3, shift=True, dilation=2, repeat=4),
        ),
        "binary",
        False,
        178,
    ),
    "a sign in front of a crop that the mirrored frame needs, on a map that becomes 1x1": Network(
        (3, 5),
        66,
        (
            layer("where", 31, (1, 1), norm=True, activation="hardtanh", weights="power of two"),
            layer("step", 77, (3, 1), 3, weights="power of two"),
            layer("round", 78, (1, 1), 2, weights="learnt", activation="relu"),
        ),
        "binary",
        False,
        2538,
    ),
    "negated channels of a sign that is split into groups": Network(
        (10, 7),
        96,
        (layer("negative scale", 94, (1, 1), groups=2, norm=True, weights="learnt", shortcut="concat"),),
        "binary",
        False,
        6700,
    ),
    "taps cut off a kernel that is padded with ones": Network(
        (11, 4),
        96,
        (layer("twice", 6, (5, 5), 2, padding=(1, 0, 2, 1), repeat=4, norm=True, activation="prelu", shift=True),),
        "binary",
        False,
        557,
    ),
    "negated channels in front of padding with ones": Network(
        (2, 4),
        32,
        (
            layer("negative scale", 6, (5, 1), padding=(0, 0, 2, 2), shift=True, weights="learnt", activation="relu"),
            layer("hardtanh", 33, (5, 3), padding=(1, 0, 2, 1)),
            layer("hardtanh", 88, (3, 1), padding=(1, 0, 2, 1), pool="max before", activation="relu"),
        ),
        "map",
        True,
        877,
    ),
    "a max-pool of a {0, 1} activation in front of thresholds": Network(
        (2, 4),
        32,
        (
            layer("hardtanh", 88, (3, 3), padding=(1, 0, 2, 1), pool="max before", activation="relu"),
            layer("hardtanh", 33, (1, 1)),
            layer("where", 88, (1, 1)),
        ),
        "pool",
        False,
        0,
    ),
    "a float convolution of bits whose terms all cancel, in windows of padding alone": Network(
        (10, 1),
        25,
        (
            layer("sign", 24, (1, 1), 2, shift=True, norm=True),
            layer("relu", 16, (1, 1), 2, padding=(1, 0, 2, 1), groups=2, repeat=2, weights="ste", norm=True),
        ),
        "flatten",
        False,
        663,
    ),
    "a pad behind a sign, on a map whose own row is one value": Network(
        (4, 7),
        1,
        (
            layer("round", 42, (2, 2), padding=(1, 0, 2, 1), shift=True, weights="mean", pool="max before", norm=True),
            layer("negative scale", 1, (3, 3), 2, padding=(1, 1, 1, 1), weights="ste", norm=True),
        ),
        "binary",
        True,
        11,
    ),
    "two steps on maps of one position": Network(
        (4, 4),
        127,
        (
            layer("hardtanh", 27, (3, 3), 2, shift=True, weights="power of two", activation="rprelu"),
            layer("round", 37, (1, 1), shift=True, weights="mean", activation="rprelu"),
            layer("step", 32, (1, 1), weights="mean", norm=True),
        ),
        "flatten",
        True,
        1237,
    ),
    "negated channels of a pooled sign that is cropped in the mirrored frame and padded with ones": Network(
        (12, 9),
        37,
        (
            layer(
                "sign",
                13,
                (5, 1),
                2,
                weights="ste",
                padding=(0, 0, 2, 2),
                repeat=2,
                pool="max before",
                norm=True,
                split=True,
            ),
            layer("where", 13, (5, 1), 2, padding=(0, 0, 2, 2), repeat=2),
        ),
        "pool",
        False,
        0,
    ),
    "a {0, 1} map that is 0 everywhere beside a bias": Network(
        (9, 1),
        1,
        (layer("round", 91, (1, 1), 2, shift=True, weights="learnt", activation="relu", split=True),),
        "map",
        True,
        757,
    ),
    "a falling comparison behind a ReLU and a max-pool": Network(
        (12, 10),
        186,
        (
            layer("negative scale", 69, (1, 1), 2, pool="max before", norm=True, activation="relu", split=True),
            layer("where", 69, (1, 1), 2),
            layer(
                "ste",
                3,
                (1, 1),
                groups=3,
                repeat=4,
                weights="learnt",
                norm=True,
                activation="hardtanh",
                shortcut="concat",
                split=True,
            ),
        ),
        "flatten",
        True,
        370,
    ),
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_networks_that_once_failed(name: str) -> None:
    check_network(REGRESSIONS[name], count=2)
