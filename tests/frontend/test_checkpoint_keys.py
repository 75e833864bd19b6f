import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from bnncc.cli import main
from bnncc.errors import WeightsError
from bnncc.frontend.checkpoint import WeightsChoice, load_weights, state_digest
from tests.needs import needs_lce

State = dict[str, Any]


class Network(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.classifier = nn.Linear(3, 2)
        self.norm(torch.randn(4, 3, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(self.norm(self.conv(x)).mean((2, 3)))
        return y


def state(seed: int = 0) -> State:
    return dict(Network(seed).state_dict())


def prefixed(prefix: str, entries: State) -> State:
    return {prefix + key: value for key, value in entries.items()}


def save(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "weights.pt")
    return folder / "weights.pt"


def loads(path: Path, seed: int = 0, **options: Any) -> list[str]:
    """The warnings; the weights are those of `Network(seed)`."""
    fresh = Network(99)
    warnings = load_weights(fresh, path, **options)
    assert state_digest(fresh) == state_digest(Network(seed))
    return warnings


QUIET: dict[str, Callable[[State], Any]] = {
    "an accuracy beside it": lambda s: {"state_dict": s, "epoch": 3, "best_acc1": torch.tensor(71.2)},
    "tensors beside it": lambda s: {
        "model": s,
        "classes": torch.arange(9),
        "mean": torch.zeros(3),
        "std": torch.ones(3),
    },
    "an optimizer beside it": lambda s: {
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3, 1, 3, 3)}, "a": {"weight": torch.ones(2)}}},
        "net": s,
    },
    **{
        key: lambda s, key=key: {key: s, "epoch": 1}
        for key in ("model_state", "weights", "params", "state", "network", "student", "ema", "module", "generator")
    },
    "model.state_dict": lambda s: {"model": {"state_dict": s}, "args": argparse.Namespace(lr=0.1)},
    "checkpoint.model": lambda s: {"checkpoint": {"model": s}},
    "state_dict in state_dict": lambda s: {"state_dict": {"state_dict": s}, "meta": {"mmcv_version": "1"}},
    "three deep": lambda s: {"callbacks": {"EMA": {"shadow": s}}},
    "a tuple": lambda s: (s, 12, "adam"),
    "a list": lambda s: [{"epoch": 1}, s],
    "the same twice": lambda s: {"last": s, "best": {key: value.clone() for key, value in s.items()}},
    "parameters": lambda s: {key: nn.Parameter(value, requires_grad=False) for key, value in s.items()},
    "NumPy arrays": lambda s: {"params": {key: value.numpy() for key, value in s.items()}},
    "dicts of dicts": lambda s: {
        part: {key.partition(".")[2]: value for key, value in s.items() if key.startswith(f"{part}.")}
        for part in ("conv", "norm", "classifier")
    },
    "averaged model": lambda s: {"n_averaged": torch.tensor(7), **prefixed("module.", s)},
    "compiled and parallel": lambda s: prefixed("_orig_mod.module.", s),
    "thop's counters": lambda s: {**s, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)},
    "float16": lambda s: {key: value.half() if value.is_floating_point() else value for key, value in s.items()},
}


@pytest.mark.parametrize("kind", QUIET)
def test_a_single_state_dict_is_found_wherever_it_is(tmp_path: Path, kind: str) -> None:
    fresh, given = Network(99), QUIET[kind](state())
    assert load_weights(fresh, save(tmp_path, given)) == []
    if kind == "float16":
        rounded = Network()
        rounded.load_state_dict({key: value.half() for key, value in state().items()})
        assert state_digest(fresh) == state_digest(rounded)
    else:
        assert state_digest(fresh) == state_digest(Network())


PREFIXES = ["model.", "module.model.", "net.backbone.", "model._orig_mod.module.", "classifier.", "0."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_common_prefix_is_found_and_said(tmp_path: Path, prefix: str) -> None:
    (warning,) = loads(save(tmp_path, {"state_dict": prefixed(prefix, state())}))
    bare = ".".join(part for part in prefix.split(".") if part not in ("module", "_orig_mod"))
    assert f"the prefix {bare!r} is stripped from its keys" in warning


def test_keys_of_something_else_beside_the_prefix_are_left_out_and_said(tmp_path: Path) -> None:
    content = {**prefixed("model.", state()), "criterion.weight": torch.ones(2), "metric.total": torch.zeros(1)}
    (warning,) = loads(save(tmp_path, {"state_dict": content}))
    assert "2 keys without it are left out (criterion.weight, metric.total)" in warning


def test_a_prefix_that_only_the_network_has_is_put_in_front(tmp_path: Path) -> None:
    fresh = nn.ModuleDict({"backbone": Network(99)})
    (warning,) = load_weights(fresh, save(tmp_path, state()))
    assert "its keys are taken as those of 'backbone' in the network" in warning
    assert state_digest(fresh["backbone"]) == state_digest(Network())


SIDE_BY_SIDE = [
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("student", "teacher"),
    ("net", "ema"),
    ("last", "best"),
]


@pytest.mark.parametrize(("first", "second"), SIDE_BY_SIDE)
@pytest.mark.parametrize("swapped", [False, True])
def test_of_several_state_dicts_the_choice_is_said_and_another_can_be_named(
    tmp_path: Path, first: str, second: str, swapped: bool
) -> None:
    held = {first: state(), second: state(1)}
    path = save(tmp_path, dict(reversed(list(held.items()))) if swapped else held)
    (warning,) = loads(path)
    assert f"several state_dicts that fit; that under {first!r} is taken" in warning
    assert f"--weights-key {second}" in warning
    assert loads(path, 1, choice=WeightsChoice(second)) == []
    assert loads(path, 0, choice=WeightsChoice(first)) == []


def test_of_several_prefixes_the_choice_is_said_and_another_can_be_named(tmp_path: Path) -> None:
    path = save(tmp_path, {**prefixed("teacher.", state(1)), **prefixed("student.", state())})
    (warning,) = loads(path)
    assert "the prefix 'student.' is stripped" in warning
    assert "--strip-prefix teacher." in warning
    (warning,) = loads(path, 1, choice=WeightsChoice(strip_prefixes=("teacher.",)))
    assert "keys are left out (student.conv.weight" in warning


def test_averages_without_running_statistics_lose_to_the_whole_state_dict(tmp_path: Path) -> None:
    shadow = {key: value for key, value in state(1).items() if "running" not in key}
    path = save(tmp_path, {"ema": {"shadow": shadow}, "model": state()})
    loads(path)
    with pytest.raises(WeightsError, match=r"'ema.shadow' in .* does not fit.*\n.*missing.*\n    norm.running_mean"):
        load_weights(Network(), path, choice=WeightsChoice("ema.shadow"))


def test_a_key_may_be_a_path_and_hold_dots(tmp_path: Path) -> None:
    path = save(tmp_path, {"a.b": {"c": state(1)}, "a": {"b": {"c": state()}}, "list": [state(2)]})
    assert loads(path, 1, choice=WeightsChoice("a.b.c")) == []
    assert loads(path, 2, choice=WeightsChoice("list.0")) == []


def test_a_key_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = save(tmp_path, {"model": {"state_dict": state()}, "epoch": 1})
    with pytest.raises(WeightsError, match=r"there is no 'ema'.*It holds model.state_dict \(9 tensors\)"):
        load_weights(Network(), path, choice=WeightsChoice("ema"))
    with pytest.raises(WeightsError, match=r"no state_dict under 'epoch'.*of the type int"):
        load_weights(Network(), path, choice=WeightsChoice("epoch"))


@pytest.mark.parametrize("prefixes", [("module.model.",), ("module.model",), ("module.", "model.")])
def test_prefixes_that_are_named_are_stripped(tmp_path: Path, prefixes: tuple[str, ...]) -> None:
    path = save(tmp_path, prefixed("module.model.", state()))
    assert loads(path, choice=WeightsChoice(strip_prefixes=prefixes)) == []


def test_a_prefix_that_no_key_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"--strip-prefix net\.: no key .* begins with it; the first are conv.weight"
    ):
        load_weights(Network(), save(tmp_path, state()), choice=WeightsChoice(strip_prefixes=("net.",)))


def test_where_nothing_fits_the_other_state_dicts_are_named(tmp_path: Path) -> None:
    given = state()
    del given["conv.bias"], given["norm.weight"]
    path = save(tmp_path, {"model": state() | {"conv.weight": torch.zeros(1)}, "ema": given})
    with pytest.raises(WeightsError, match=r"(?s)does not fit.*The file also holds ema \(7 tensors\).*--weights-key"):
        load_weights(Network(), path)


class Renames(nn.Module):
    """A binary layer whose checkpoints of an earlier version hold `w`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def _load_from_state_dict(self, state_dict: State, prefix: str, *rest: Any) -> None:
        if prefix + "w" in state_dict:
            state_dict[prefix + "weight"] = state_dict.pop(prefix + "w").reshape(2, 2)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class OwnLoad(Network):
    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict({key.replace("kernel", "weight"): state_dict[key] for key in state_dict}, strict)


class Version(nn.Module):
    """Reads the version of the module that saved it, as torch's own modules do."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def _load_from_state_dict(self, state_dict: State, prefix: str, local_metadata: State, *rest: Any) -> None:
        if local_metadata.get("version") == 1:
            state_dict[prefix + "scale"] = state_dict[prefix + "scale"] * 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_the_hooks_of_a_parametrisation_rename_old_keys(tmp_path: Path) -> None:
    fresh = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)))
    old = {"0.weight_g": torch.tensor([[1.0], [2.0]]), "0.weight_v": torch.eye(2) * 3, "0.bias": torch.ones(2)}
    for content in (old, {"state_dict": prefixed("module.", old)}, {"state_dict": prefixed("model.", old)}):
        load_weights(fresh, save(tmp_path, content))
        assert torch.equal(fresh[0].weight, torch.diag(torch.tensor([1.0, 2.0])))


def test_a_network_all_of_whose_keys_are_renamed_by_hooks_loads_behind_a_prefix(tmp_path: Path) -> None:
    fresh = nn.ModuleDict({"layer": Renames()})
    load_weights(fresh, save(tmp_path, {"model.layer.w": torch.arange(4.0)}))
    assert torch.equal(fresh["layer"].weight, torch.arange(4.0).reshape(2, 2))


def test_an_override_may_rename_and_reshape(tmp_path: Path) -> None:
    fresh = nn.Sequential(Renames())
    assert load_weights(fresh, save(tmp_path, {"0.w": torch.arange(4.0)})) == []
    assert torch.equal(fresh[0].weight, torch.arange(4.0).reshape(2, 2))


def test_a_hook_before_loading_may_rename(tmp_path: Path) -> None:
    def hook(module: nn.Module, entries: State, prefix: str, *rest: Any) -> None:
        for key in list(entries):
            entries[key.replace("first", "conv")] = entries.pop(key)

    fresh = Network(99)
    fresh.register_load_state_dict_pre_hook(hook)
    given = {key.replace("conv", "first"): value for key, value in state().items()}
    assert load_weights(fresh, save(tmp_path, given)) == []
    assert state_digest(fresh) == state_digest(Network())


def test_the_networks_own_load_state_dict_is_used(tmp_path: Path) -> None:
    fresh = OwnLoad(99)
    assert load_weights(fresh, save(tmp_path, {k.replace("weight", "kernel"): v for k, v in state().items()})) == []
    assert state_digest(fresh) == state_digest(Network())


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_versions_of_modules_reach_their_hooks(tmp_path: Path, prefix: str) -> None:
    trained, fresh = nn.Sequential(Version()), nn.Sequential(Version())
    trained[0]._version = 1
    given = trained.state_dict()
    metadata = given._metadata
    for key in list(given):
        given[prefix + key] = given.pop(key) + 1
    given._metadata = {(prefix + key).rstrip("."): value for key, value in metadata.items()}
    load_weights(fresh, save(tmp_path, given))
    assert fresh[0].scale.item() == 2


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.bits: Any = 8

    def get_extra_state(self) -> Any:
        return {"bits": self.bits}

    def set_extra_state(self, entry: Any) -> None:
        self.bits = entry["bits"]


def test_extra_state_is_given_to_the_module(tmp_path: Path) -> None:
    trained, fresh = nn.Sequential(Counts()), nn.Sequential(Counts())
    trained[0].bits = 1
    assert load_weights(fresh, save(tmp_path, {"state_dict": trained.state_dict()})) == []
    assert fresh[0].bits == 1
    trained[0].bits = None
    load_weights(fresh, save(tmp_path, prefixed("model.", trained.state_dict())))
    assert fresh[0].bits is None


def test_extra_state_that_the_network_does_not_have_is_no_trouble(tmp_path: Path) -> None:
    assert loads(save(tmp_path, {**state(), "conv._extra_state": None})) == []


def with_tensor(change: Callable[[Tensor], Tensor]) -> State:
    given = state()
    given["classifier.weight"] = change(given["classifier.weight"])
    return given


def test_a_sparse_tensor_becomes_dense_with_a_word(tmp_path: Path) -> None:
    for change in (Tensor.to_sparse, Tensor.to_sparse_csr):
        (warning,) = loads(save(tmp_path, with_tensor(change)))
        assert "sparse in the file, made dense: classifier.weight" in warning


def test_a_quantized_tensor_is_dequantized_with_a_word(tmp_path: Path) -> None:
    given = with_tensor(lambda w: torch.quantize_per_tensor(w, 0.25, 0, torch.qint8))
    fresh = Network(99)
    (warning,) = load_weights(fresh, save(tmp_path, given))
    assert "dequantized: classifier.weight" in warning
    assert torch.equal(fresh.classifier.weight, given["classifier.weight"].dequantize())


def test_a_tensor_without_values_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)shapes without values.*classifier.weight"):
        load_weights(Network(), save(tmp_path, with_tensor(lambda w: w.to("meta"))))


def test_narrower_and_wider_types_are_converted(tmp_path: Path) -> None:
    for dtype, count in ((torch.bfloat16, 0), (torch.float16, 0), (torch.float8_e4m3fn, 0), (torch.float64, 1)):
        given, fresh = with_tensor(lambda w, dtype=dtype: w.to(dtype)), Network(99)
        assert len(load_weights(fresh, save(tmp_path, given))) == count
        assert torch.equal(fresh.classifier.weight, given["classifier.weight"].float())


def test_wrong_shapes_are_listed_with_both_shapes(tmp_path: Path) -> None:
    given = with_tensor(lambda w: w[:, :2]) | {"conv.bias": torch.tensor(1.0)}
    with pytest.raises(
        WeightsError,
        match=r"(?s)2 of another shape:.*conv.bias: scalar in the file, 3 in the network"
        r".*classifier.weight: 2x2 in the file, 2x3 in the network",
    ):
        load_weights(Network(), save(tmp_path, prefixed("model.", given)))


def test_a_hook_that_fails_is_quoted(tmp_path: Path) -> None:
    def hook(*arguments: Any) -> None:
        raise KeyError("no such layer")

    fresh = Network()
    fresh.register_load_state_dict_pre_hook(hook)
    with pytest.raises(WeightsError, match=r"load_state_dict fails:\n  KeyError: 'no such layer'"):
        load_weights(fresh, save(tmp_path, state()))


def test_tensors_without_names_are_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="shadow_params is a list of 2 tensors without names"):
        load_weights(Network(), save(tmp_path, {"decay": 0.9, "shadow_params": [torch.ones(2), torch.ones(1)]}))


@needs_lce
def test_the_command_line_names_key_and_prefix(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"
    )
    torch.manual_seed(0)
    linear = nn.Linear(4, 2).state_dict()
    save(tmp_path, {"model": prefixed("1.", linear), "ema": prefixed("a.b.1.", {k: v + 1 for k, v in linear.items()})})
    command = [sys.executable, "-c", "from bnncc.cli import main; main()", "compile", "net.py:make"]
    options = ["--input-shape", "1x1x2x2", "-o", "net.tflite", "--strip-prefix", "a.", "--strip-prefix", "b."]
    weights = ["--weights", "weights.pt", "--weights-key", "ema"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    done = subprocess.run(
        [*command, *options, *weights, "--runtime", "lce"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = (tmp_path / "net.tflite").read_bytes()
    assert (linear["weight"] + 1).numpy().tobytes() in found or (linear["weight"] + 1).T.numpy().tobytes() in found
    refused = click.testing.CliRunner().invoke(main, ["compile", f"{tmp_path}/net.py:make", *options])
    assert refused.exit_code == 2
    assert "give --weights as well" in refused.stderr
    assert np.isfinite(linear["weight"].numpy()).all()


@pytest.mark.parametrize("wrapper", ["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"])
def test_a_wrapper_around_an_inner_module_makes_no_difference(tmp_path: Path, wrapper: str) -> None:
    content = {key.replace("conv.", f"conv.{wrapper}."): value for key, value in state().items()}
    assert loads(save(tmp_path, content)) == []


def test_integers_for_floats_are_said_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    weight = torch.tensor([[1, -1, 1], [-1, 1, 1]], dtype=torch.int8)
    fresh = Network(1)
    (warning,) = load_weights(fresh, save(tmp_path, {**state(), "classifier.weight": weight}))
    assert "int8 in the file, taken as numbers without a scale: classifier.weight" in warning
    assert torch.equal(fresh.classifier.weight, weight.float())
    with pytest.raises(WeightsError, match=r"'conv\.bias' holds complex numbers"):
        load_weights(Network(), save(tmp_path, {**state(), "conv.bias": state()["conv.bias"] * 1j}))


def apart(new: bool, kind: str) -> State:
    """The state_dict of a network whose classifier has its weight in parts."""
    made = Network()
    if kind == "weight":
        (parametrizations.weight_norm if new else nn.utils.weight_norm)(made.classifier)
    elif kind == "spectral":
        (parametrizations.spectral_norm if new else nn.utils.spectral_norm)(made.classifier)
    else:
        prune.l1_unstructured(made.classifier, "weight", 0.5)
    return dict(made.state_dict())


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("new", "kind", "what"),
    [
        (False, "weight", "weight_norm keeps it.*remove_weight_norm"),
        (True, "weight", "parametrize keeps it.*remove_parametrizations"),
        (False, "spectral", "spectral_norm keeps it.*remove_spectral_norm"),
        (True, "spectral", "parametrize keeps it.*remove_parametrizations"),
        (False, "pruned", r"pruning keeps it.*prune\.remove"),
    ],
)
def test_what_keeps_a_weight_in_parts_is_named(tmp_path: Path, new: bool, kind: str, what: str) -> None:
    path = save(tmp_path, prefixed("module.", apart(new, kind)))
    with pytest.raises(WeightsError, match=rf"'classifier\.weight' is in the file as \S*{what}"):
        load_weights(Network(), path)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_keeps_a_weight_in_parts_is_named(tmp_path: Path) -> None:
    fresh = Network()
    nn.utils.weight_norm(fresh.classifier)
    with pytest.raises(WeightsError, match=r"The network has 'classifier\.weight' as torch\.nn\.utils\.weight_norm"):
        load_weights(fresh, save(tmp_path, state()))


def test_a_file_of_parameters_alone_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"The file has parameters and no buffers.*save network\.state_dict\(\)"):
        load_weights(Network(), save(tmp_path, dict(Network().named_parameters())))
