"""The level of theory of a universal potential."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ionloop.codes.forcefield.model import effective_options, missing_package, split_import_path
from ionloop.schemas.errors import InputError, MissingFileError
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ionloop.codes.forcefield.settings import ForceFieldSettings


def level_of_theory(settings: ForceFieldSettings) -> LevelOfTheory:
    """Describe everything that decides the value of a label, without loading the model.

    Device, limits and the path of the checkpoint are left out: they do not change a value.

    Raises
    ------
    MissingExtraError
        If the package of the model is not installed.
    FileNotFoundError
        If the checkpoint does not exist.
    """
    about: dict[str, Any] = {"model": settings.model, **_version(settings)}
    if settings.checkpoint is not None:
        about["checkpoint sha256"] = _file_hash(settings.checkpoint)
    options = effective_options(settings)
    if options:
        about["options"] = options
    return LevelOfTheory(code=settings.family, settings=about)


def _version(settings: ForceFieldSettings) -> dict[str, str]:
    if settings.family == "custom":
        return _custom_version(settings.model)
    package = {"sevennet": "sevenn", "chgnet": "chgnet"}[settings.family]
    try:
        return {"version": metadata.version(package)}
    except metadata.PackageNotFoundError as error:
        raise missing_package(package, settings) from error


def _custom_version(import_path: str) -> dict[str, str]:
    module, _ = split_import_path(import_path)
    if version := _installed_version(module.split(".")[0]):
        return {"version": version}
    # A file of the user has no version, so its content identifies it.
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(f"{import_path}: there is no module {module}; check the import path")
    return {"source sha256": _file_hash(Path(spec.origin))}


@functools.cache
def _installed_version(package: str) -> str | None:
    """Return the version of the distribution that installed a package, if there is one.

    `importlib.metadata.packages_distributions` knows it too, but reads every file name of every
    distribution, which takes half a second in each job.
    """
    for distribution in metadata.distributions():
        declared = (distribution.read_text("top_level.txt") or "").split()
        if package in declared or (not declared and _brought(distribution, package)):
            return distribution.version
    return None


def _brought(distribution: metadata.Distribution, package: str) -> bool:
    record = distribution.read_text("RECORD") or ""
    return re.search(rf"^{package}(/[^,]*)?\.py,", record, re.MULTILINE) is not None


def _file_hash(path: Path) -> str:
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; check the checkpoint's path")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
