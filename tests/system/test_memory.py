"""What does not fit into memory is refused before any is taken; the garbage collector is left as it was."""

import contextlib
import gc

import pytest

from bnncc.errors import InputError
from bnncc.frontend.command_line import parse_input_shape
from bnncc.system.memory import require_memory, without_collections


def test_a_shape_that_no_machine_holds_is_refused() -> None:
    with pytest.raises(InputError, match=r"x=1x3x10{10}x10{10} takes .* GiB, and the limit is .*BNNCC_MEMORY"):
        parse_input_shape("x=1x3x10000000000x10000000000")


def test_the_limit_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNCC_MEMORY", "2k")
    require_memory(2048, "it")
    with pytest.raises(InputError, match="it takes"):
        require_memory(2049, "it")
    monkeypatch.setenv("BNNCC_MEMORY", "much")
    with pytest.raises(InputError, match="BNNCC_MEMORY is 'much': write a number"):
        require_memory(1, "it")


@pytest.mark.parametrize("was_enabled", [True, False])
def test_collections_are_off_for_as_long_and_then_as_before(was_enabled: bool) -> None:
    before = gc.isenabled()
    (gc.enable if was_enabled else gc.disable)()
    try:
        with contextlib.suppress(KeyError), without_collections():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is was_enabled
    finally:
        (gc.enable if before else gc.disable)()
