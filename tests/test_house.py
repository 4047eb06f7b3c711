"""The rules of the house that no linter checks."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from ionloop import api

ROOT = Path(__file__).parents[1]
ROOTS = ["schemas", "makers", "workflows"]
SOURCES = sorted(path for root in ROOTS for path in (ROOT / root).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ARCHITECTURE = ROOT / "docs" / "architecture.md"

LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 40  # lines of code: without docstring, comments and blank lines
MOST_PARAMETERS = 7  # without self or cls

NAMED_OTHERWISE = {"torch_sim": "torch-sim-atomistic"}
"""Distributions of packages of extras that tests do without."""

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))

Function = ast.FunctionDef | ast.AsyncFunctionDef


# --- packages ----------------------------------------------------------------------------------


def test_ionloop_is_a_namespace_package() -> None:
    # An __init__.py in one root would hide the other two.
    assert not [root for root in ROOTS if (ROOT / root / "ionloop" / "__init__.py").exists()]


def test_every_top_package_is_typed() -> None:
    top = {ROOT / place for place in rooms().values()}
    assert len(top) >= 10
    assert not [package for package in top if not (package / "py.typed").exists()]


def test_every_room_is_in_the_import_contracts() -> None:
    contracts = PROJECT["tool"]["importlinter"]
    assert set(contracts["root_packages"]) == {f"ionloop.{room}" for room in rooms()}
    assert {room for layer in layers() for room in layer} == set(rooms())


def test_the_import_contracts_are_kept() -> None:
    # Arrows between rooms run down only, and no room has a cycle inside. In a process of its own,
    # since import-linter switches off the loggers that are there.
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_plan_of_the_house_draws_the_rooms_of_the_import_contracts() -> None:
    picture = re.search(r"<!-- rooms -->\n```\n(.*?)```", ARCHITECTURE.read_text(), re.DOTALL)
    assert picture, f"{ARCHITECTURE} has no picture of the rooms"
    drawn = [re.findall(r"[a-z]+", line) for line in picture[1].splitlines()]
    assert [sorted(layer) for layer in drawn if layer] == [sorted(layer) for layer in layers()]


def test_the_plan_of_the_house_says_what_every_room_is_for() -> None:
    described = re.findall(r"^\| `(\w+)` +\|", ARCHITECTURE.read_text(), re.MULTILINE)
    assert set(rooms()) <= set(described)


def test_the_public_face_is_above_every_room() -> None:
    faces = {f"ionloop.{path.stem}" for path in (ROOT / "workflows" / "ionloop").glob("*.py")}
    inside = [path for path in SOURCES if path.parent.name != "ionloop" and "cli" not in path.parts]
    guilty = {
        module_name(path)
        for path in inside
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module in faces
    }
    assert not guilty


def rooms() -> dict[str, str]:
    """Return the top packages of ionloop and their folders, relative to the repository."""
    return {
        folder.name: str(folder.relative_to(ROOT))
        for root in ROOTS
        for folder in (ROOT / root / "ionloop").iterdir()
        if any(folder.rglob("*.py"))
    }


def layers() -> list[list[str]]:
    """Return the layers of the import contract from top to bottom, each with its rooms."""
    (contract,) = (
        contract
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and "ionloop.schemas" in contract["layers"]
    )
    return [re.findall(r"ionloop\.(\w+)", layer) for layer in contract["layers"]]


# --- sizes -------------------------------------------------------------------------------------


@each_source
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@each_source
def test_functions_are_short(path: Path) -> None:
    lines = code_lines(path)
    sizes = {
        function.name: len(lines & set(range(function.lineno, (function.end_lineno or 0) + 1)))
        for function in functions(path)
    }
    assert not {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION}


@each_source
def test_functions_have_few_parameters(path: Path) -> None:
    numbers = {function.name: len(parameters(function)) for function in functions(path)}
    assert not {name: number for name, number in numbers.items() if number > MOST_PARAMETERS}


# --- habits ------------------------------------------------------------------------------------


@each_source
def test_errors_are_ionloops_own(path: Path) -> None:
    # Others count on the command line as faults to report.
    strangers = [
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
        for names in [{ast.unparse(base) for base in node.bases}]
        if not names - set(dir(builtins))
    ]
    assert set(strangers) <= {"IonloopError", "NotLoadedError"}


@each_source
def test_public_functions_describe_their_parameters(path: Path) -> None:
    wanting = {}
    for function in public_functions(path):
        names = parameters(function)
        missing = [name for name in names if name not in described_parameters(function)]
        if len(names) > 1 and missing:
            wanting[function.name] = missing
    assert not wanting


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if re.search(r"^ *>>> ", path.read_text(), re.MULTILINE)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_examples_in_docstrings_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module_name(path)))
    assert result.failed == 0


def test_every_maker_for_users_has_an_example() -> None:
    makers = [getattr(api, name) for name in api.__all__ if name.endswith("Maker")]
    assert makers
    assert [maker.__name__ for maker in makers if ">>> " not in maker.__doc__] == []


# --- dependencies ------------------------------------------------------------------------------


def test_the_dependencies_are_those_that_are_imported() -> None:
    imported = {distribution(name) for path in SOURCES for name in imports(tree(path))}
    extras = {name for names in declared_extras().values() for name in names}
    assert declared("ionloop") <= imported, "declared and not imported"
    assert imported - declared("ionloop") <= extras | BY_ANOTHER_PROGRAM, "imported, not declared"


@each_source
def test_optional_programs_are_imported_where_they_are_used(path: Path) -> None:
    # A module-level import would make an extra necessary for everybody.
    at_import = {distribution(name) for name in imports(tree(path), at_import=True)}
    optional = at_import - declared("ionloop")
    allowed = MODULES_OF_EXTRAS.get(str(path.relative_to(ROOT)), set())
    assert optional <= allowed


BY_ANOTHER_PROGRAM = {"gpaw", "mace"}  # by the scripts that their own Python runs

# Modules that are imported only where the extra is in use.
MODULES_OF_EXTRAS = {
    "makers/ionloop/codes/gpaw/script.py": {"gpaw"},
    "workflows/ionloop/engines/fireworks/task.py": {"fireworks"},
}


def declared(name: str) -> set[str]:
    """Return the distributions that ionloop needs, without extras."""
    return {normal(requirement) for requirement in PROJECT["project"]["dependencies"]}


def declared_extras() -> dict[str, set[str]]:
    """Return the distributions of every extra."""
    extras = PROJECT["project"]["optional-dependencies"]
    return {extra: {normal(needed) for needed in extras[extra]} for extra in extras}


def normal(requirement: str) -> str:
    """Return the name of a requirement as package indexes compare it."""
    name = re.split(r"[\[<>=!~; ]", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distribution(package: str) -> str:
    """Return the distribution that an imported package belongs to."""
    known = metadata.packages_distributions().get(package, [NAMED_OTHERWISE.get(package, package)])
    wanted = declared("ionloop").union(*declared_extras().values())
    names = sorted(normal(name) for name in known)
    return next((name for name in names if name in wanted), names[0])


def imports(module: ast.Module, *, at_import: bool = False) -> Iterator[str]:
    """Return the packages of others that a module imports; those that its own import needs."""
    nodes = _executed(module.body) if at_import else ast.walk(module)
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for top in {name.split(".")[0] for name in names}:
            if top not in sys.stdlib_module_names and top != "ionloop":
                yield top


def _executed(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        if isinstance(node, ast.ClassDef | ast.If | ast.Try | ast.With):
            yield from _executed(node.body)


# --- reading the source ------------------------------------------------------------------------


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def public_functions(path: Path) -> Iterator[Function]:
    """Return the public functions of a module, and the public methods of its public classes.

    Commands are left out, because their options carry their help, and so are methods that
    override one of a base class, which describes them.
    """
    if "cli" in path.parts:
        return
    for node in tree(path).body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if (
                    isinstance(method, Function)
                    and not method.name.startswith("_")
                    and len(parameters(method)) > 1
                    and not overrides(path, node.name, method.name)
                ):
                    yield method


def overrides(path: Path, name: str, method: str) -> bool:
    _, *bases = getattr(importlib.import_module(module_name(path)), name).__mro__
    return any(method in vars(base) for base in bases)


def module_name(path: Path) -> str:
    (root,) = (ROOT / root for root in ROOTS if path.is_relative_to(ROOT / root))
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def parameters(function: Function) -> list[str]:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names = [argument.arg for argument in plain]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def described_parameters(function: Function) -> set[str]:
    """Return the names in the Parameters section of a docstring, in numpy's style."""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?:^\w[\w ]*\n-+$|\Z)",
        ast.get_docstring(function) or "",
        re.DOTALL | re.MULTILINE,
    )
    lines = re.findall(r"^\S.*$", section[1], re.MULTILINE) if section else []
    return {name.strip("* ") for line in lines for name in line.split(":")[0].split(",")}


def code_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that hold code, without docstrings and comments."""
    blank = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return lines
