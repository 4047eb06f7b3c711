"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = ["schemas", "makers", "workflows"]
SOURCES = sorted(path for root in ROOTS for path in (ROOT / root).rglob("*.py"))
LONGEST = 60


def test_ionloop_is_a_namespace_package() -> None:
    # An __init__.py in one root would hide the other two.
    assert not [root for root in ROOTS if (ROOT / root / "ionloop" / "__init__.py").exists()]


def test_every_subpackage_is_typed() -> None:
    packages = {path.parent for path in SOURCES}
    roots = {ROOT / root / "ionloop" for root in ROOTS}
    top = {package for package in packages if package.parent in roots}
    assert len(top) >= 10
    assert not [package for package in top if not (package / "py.typed").exists()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = [
        f"{function.name} ({function.end_lineno - function.lineno + 1} lines)"
        for function in functions
        if function.end_lineno is not None
        and function.end_lineno - function.lineno >= LONGEST + _docstring_lines(function)
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_are_ionloops_own(path: Path) -> None:
    # Others count on the command line as faults to report.
    strangers = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
        for names in [{ast.unparse(base) for base in node.bases}]
        if not names - set(dir(builtins))
    ]
    assert set(strangers) <= {"IonloopError", "NotLoadedError"}


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
