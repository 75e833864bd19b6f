import pytest

from bnncc.errors import InputError
from bnncc.frontend import parse_argument
from bnncc.frontend.command_line import GivenShape, parse_input_shape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("depth=18", ("depth", 18)),
        ("widths=(64, 128)", ("widths", (64, 128))),
        ("pretrained=False", ("pretrained", False)),
        ("name=resnet18", ("name", "resnet18")),
        ("path=a=b", ("path", "a=b")),
        ("empty=", ("empty", "")),
    ],
)
def test_an_argument_is_a_python_literal_or_else_a_string(text: str, expected: tuple[str, object]) -> None:
    assert parse_argument(text) == expected


@pytest.mark.parametrize("text", ["depth", "=18", "a b=1"])
def test_an_argument_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write name=value"):
        parse_argument(text)


def test_a_shape_may_carry_the_name_of_its_input() -> None:
    assert parse_input_shape("1x3x224x224") == GivenShape(None, (1, 3, 224, 224))
    assert parse_input_shape("image=1,3,8,8") == GivenShape("image", (1, 3, 8, 8))


def test_brackets_without_end_are_a_string() -> None:
    text = "[" * 10_000
    assert parse_argument(f"name={text}") == ("name", text)


def test_a_shape_that_no_memory_holds_is_refused() -> None:
    for text in (f"1x3x{10**11}x{10**11}", f"{10**20}x3x8x8"):
        with pytest.raises(InputError, match="the limit is"):
            parse_input_shape(text)


@pytest.mark.parametrize("text", ["", "1x", "1x0x3", "-1x3", "axb", "3x224x224px", "1x3x8x²", "1" * 5000])
def test_a_shape_that_is_no_list_of_positive_sizes_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="for example 1x3x224x224"):
        parse_input_shape(text)
