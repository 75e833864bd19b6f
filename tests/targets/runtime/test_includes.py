import graphlib
import re
from pathlib import Path

from bnncc.runtime.build import source_folder

INCLUDE = re.compile(r'^#include "(.+)"', re.MULTILINE)


def included(file: Path) -> set[Path]:
    return {(file.parent / name).resolve() for name in INCLUDE.findall(file.read_text())}


def test_includes_of_the_runtime_go_one_way() -> None:
    files = [path.resolve() for path in source_folder().rglob("*") if path.suffix in {".cc", ".h"}]
    assert {path.name for path in files} >= {"body.h", "tables.h", "interpreter.cc", "bconv2d.cc"}
    # A circle, such as two headers that include each other, is a graphlib.CycleError.
    order = list(graphlib.TopologicalSorter({file: included(file) for file in files}).static_order())
    assert set(order) == set(files)
