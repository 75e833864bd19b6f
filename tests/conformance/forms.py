"""All forms, from the tables of the modules beside this one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import chain

from bnncc.errors import UnsupportedOperatorsError
from tests.conformance import activations, binary, elementwise, moves, products, quantized, windowed
from tests.conformance.form import EmittedForm, Form, emitted

TABLES = (elementwise, activations, windowed, products, moves, binary, quantized)


@functools.cache
def all_forms() -> list[Form]:
    """In the tables' order; no two have one title."""
    forms = list(chain.from_iterable(table.forms() for table in TABLES))
    assert len({form.title for form in forms}) == len(forms), "two forms have one title"
    return forms


def emitted_forms(forms: list[Form]) -> Iterator[EmittedForm]:
    """Those that the emitter can write."""
    for form in forms:
        try:
            yield emitted(form)
        except UnsupportedOperatorsError:
            continue
