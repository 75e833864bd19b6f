"""Who imports whom, against the table of docs/architecture.md."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
# What stands above all.
UNBOUND = {"bnncc", "cli"}
# Runs on the device, without bnncc.
DEVICE_FILES = "bnncc/bundle/files/"

IMPORTERS = {"import_module", "__import__", "resolve_name"}

Imports = Mapping[str, set[str]]


def layers(page: str) -> dict[str, set[str]]:
    """What each folder may import, by the page's table."""
    table = page.split("<!-- layers -->")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.strip().splitlines()[2:]]
    return {
        name: set(filter(None, allowed.split(", ")))
        for names, allowed, _ in rows
        for name in re.findall(r"`(\w+)`", names)
    }


def exceptions(page: str) -> set[tuple[str, str]]:
    """(module, package) of what the page excepts."""
    found = re.search(r"<!-- exceptions: (\w+) -> ([\w, ]+) -->", page)
    assert found is not None
    return {(found[1], name) for name in found[2].split(", ")}


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package, by its dotted name; bnncc/passes and bnncc/targets are links."""
    found = {}
    for folder in ("bnncc", "passes", "targets"):
        for path in (root / folder).rglob("*.py"):
            relative = path.relative_to(root).as_posix()
            if relative.startswith(DEVICE_FILES) or relative.startswith(("bnncc/passes/", "bnncc/targets/")):
                continue
            name = relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            found[name if folder == "bnncc" else f"bnncc.{name}"] = path
    return found


def imports_of(source: str, known: Mapping[str, object]) -> Iterator[str]:
    """The modules of bnncc that `source` imports, anywhere in it and in any way that names them.

    So does what is called with a module's name as a string, and an attribute of `bnncc` that is a module; bnncc/passes
    and bnncc/targets may be named as the folders that they link to.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name for alias in node.names if (name := _in_package(alias.name)) is not None)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            module = _in_package(node.module or "")
            if module is not None:
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    yield inner if inner in known else module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in IMPORTERS:
            names = [one.value for one in node.args[:1] if isinstance(one, ast.Constant)]
            yield from (name for name in names if name in known)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in known:
                yield name


def _in_package(name: str) -> str | None:
    """A module's name in the package; None for one of another."""
    top = name.split(".")[0]
    if top in ("passes", "targets"):
        return f"bnncc.{name}"
    return name if top == "bnncc" else None


def run_at_import(source: str) -> str:
    """The source without the bodies of its functions, and without what only type checkers read."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        checked = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if checked or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def import_graph(root: Path) -> dict[str, set[str]]:
    known = modules(root)
    graph = {name: set(imports_of(path.read_text(encoding="utf-8"), known)) for name, path in known.items()}
    unknown = {(name, target) for name, targets in graph.items() for target in targets if target not in known}
    assert not unknown, f"imports of what is not there: {unknown}"
    return graph


def folder_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def violations(graph: Imports, allowed: Mapping[str, set[str]], excepted: set[tuple[str, str]]) -> list[str]:
    """Each import against the table, as "importer imports imported"."""
    found = []
    for module, targets in sorted(graph.items()):
        folder = folder_of(module)
        for target in sorted(targets):
            other = folder_of(target)
            if folder in UNBOUND or other == folder or (folder, other) in excepted:
                continue
            if other not in allowed.get(folder, set()):
                found.append(f"{module} imports {target}")
    return found


def circle(graph: Imports, excepted: set[tuple[str, str]]) -> list[str]:
    """Modules that import each other in a circle; empty where there is none.

    A package's `__init__` stands for what it imports, so that it is no circle that its modules are in it.
    """
    edges = {
        module: {target for target in targets if (folder_of(module), folder_of(target)) not in excepted} - {module}
        for module, targets in graph.items()
    }
    try:
        tuple(graphlib.TopologicalSorter(edges).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_nothing_imports_against_the_page() -> None:
    assert violations(import_graph(REPOSITORY), layers(PAGE), exceptions(PAGE)) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(import_graph(REPOSITORY), exceptions(PAGE)) == []


def test_what_the_page_excepts_is_imported_inside_functions_only() -> None:
    known = modules(REPOSITORY)
    for folder, other in exceptions(PAGE):
        for name, path in known.items():
            if folder_of(name) == folder:
                found = imports_of(run_at_import(path.read_text(encoding="utf-8")), known)
                assert other not in {folder_of(target) for target in found}


def test_what_runs_on_a_device_imports_nothing_of_bnncc() -> None:
    known = modules(REPOSITORY)
    files = [*(REPOSITORY / DEVICE_FILES).rglob("*.py")]
    assert files
    for path in files:
        assert not list(imports_of(path.read_text(encoding="utf-8"), known)), path


def test_the_page_has_a_row_for_every_folder_and_module_and_no_other() -> None:
    assert set(layers(PAGE)) == {folder_of(module) for module in modules(REPOSITORY)} - UNBOUND


def test_the_pages_table_has_no_circle_itself() -> None:
    tuple(graphlib.TopologicalSorter(layers(PAGE)).static_order())


def test_every_exception_is_used() -> None:
    graph = import_graph(REPOSITORY)
    for folder, other in exceptions(PAGE):
        assert any(folder_of(m) == folder and folder_of(t) == other for m, targets in graph.items() for t in targets)


def test_the_linked_folders_are_the_packages() -> None:
    known = modules(REPOSITORY)
    assert list(imports_of("from passes.affine import Affine\nimport targets.description", known)) == [
        "bnncc.passes.affine",
        "bnncc.targets.description",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "from bnncc.compiler import compile",
        "def f():\n    from bnncc.compiler import compile",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bnncc.compiler",
        "import bnncc.compiler as c",
        "import importlib\nimportlib.import_module('bnncc.compiler')",
        "__import__('bnncc.compiler')",
        "import bnncc.errors\nbnncc.compiler.compile()",
    ],
)
def test_an_import_against_the_page_is_found_wherever_it_stands(source: str) -> None:
    graph = import_graph(REPOSITORY)
    graph["bnncc.ir.ops"] |= set(imports_of(source, graph))
    assert violations(graph, layers(PAGE), exceptions(PAGE)) == ["bnncc.ir.ops imports bnncc.compiler"]
    assert {"bnncc.ir.ops", "bnncc.compiler"} <= set(circle(graph, exceptions(PAGE)))
