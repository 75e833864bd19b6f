import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnncc.errors import WeightsError
from bnncc.frontend.checkpoint import load_weights, state_digest


def network(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))


def save(path: Path, content: Any) -> Path:
    torch.save(content, path / "weights.pt")
    return path / "weights.pt"


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)},
        lambda state: {"model": state},
        lambda state: {"net": state},
        lambda state: {"model_state_dict": state},
        lambda state: prefixed("module.", state),
        lambda state: {"state_dict": prefixed("_orig_mod.module.", state)},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    ],
    ids=["plain", "state_dict", "model", "net", "model_state_dict", "DataParallel", "compiled", "old batch norm"],
)
def test_every_form_of_checkpoint_gives_the_same_weights(tmp_path: Path, wrap: Any) -> None:
    trained, fresh = network(), network()
    assert load_weights(fresh, save(tmp_path, wrap(trained.state_dict()))) == []
    assert state_digest(fresh) == state_digest(trained)


def test_a_wrapper_inside_the_network_makes_no_difference(tmp_path: Path) -> None:
    trained, fresh = network(), nn.DataParallel(network())
    load_weights(fresh, save(tmp_path, trained.state_dict()))
    assert state_digest(fresh.module) == state_digest(trained)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, network().state_dict())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"cannot be read.*truncated"):
        load_weights(network(), path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("not a checkpoint")
    with pytest.raises(WeightsError, match=r"cannot be read|Python objects"):
        load_weights(network(), tmp_path / "weights.pt")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_weights(network(), tmp_path / "absent.pt")


def test_a_checkpoint_without_tensors_is_refused_with_its_keys(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no state_dict: it is a dict with epoch, optimizer"):
        load_weights(network(), save(tmp_path, {"epoch": 1, "optimizer": {}}))


def test_missing_and_unexpected_keys_are_listed(tmp_path: Path) -> None:
    state = network().state_dict()
    state["2.extra"] = state.pop("0.bias")
    path = save(tmp_path, state)
    with pytest.raises(
        WeightsError,
        match=r"1 missing from the file:\n    0.bias\n  1 in the file but not in the network:\n    2.extra\n"
        r".*--allow-partial-weights",
    ):
        load_weights(network(), path)
    fresh = network()
    (warning,) = load_weights(fresh, path, allow_partial=True)
    assert "0.bias" in warning
    assert "2.extra" in warning
    assert torch.equal(fresh[0].weight, state["0.weight"])


def test_a_wrong_shape_is_an_error_even_where_partial_weights_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"0.weight: 4x1x3x3 in the file, 3x1x3x3 in the network"):
        load_weights(network(), save(tmp_path, network(4).state_dict()), allow_partial=True)


def test_a_long_list_of_keys_is_cut_and_counted(tmp_path: Path) -> None:
    deep = nn.Sequential(*(nn.Linear(1, 1) for _ in range(20)))
    with pytest.raises(WeightsError, match=r"38 missing from the file:(.|\n)*… and 18 more"):
        load_weights(deep, save(tmp_path, nn.Sequential(nn.Linear(1, 1)).state_dict()))


def test_a_checkpoint_of_another_network_is_refused_even_as_partial(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no key in common"):
        load_weights(network(), save(tmp_path, {"a": torch.zeros(1)}), allow_partial=True)


def test_the_digest_depends_on_names_shapes_and_values() -> None:
    base = nn.Linear(2, 2)
    digests = {state_digest(base), state_digest(nn.Sequential(base))}
    with torch.no_grad():
        base.bias += 1
    digests.add(state_digest(base))
    assert len(digests) == 3
    assert state_digest(base) == state_digest(base)
