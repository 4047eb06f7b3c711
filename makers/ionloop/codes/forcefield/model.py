"""Identify and load a universal potential, or any ASE calculator."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.threads import use_one_thread
from ionloop.codes.finetuning.elements import MPTRJ
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.errors import InputError, MissingFileError
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from ionloop.codes.forcefield.settings import ForceFieldSettings

CHECKPOINT, DEVICE = "{checkpoint}", "{device}"

_LOADED: dict[str, Calculator] = {}
"""Models that this process has loaded, by their settings."""


def split_import_path(path: str) -> tuple[str, str]:
    """Return module and name of an import path, such as ``package.module:callable``."""
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise InputError(
            f"{path!r} is no known model; use 7net-0, 7net-l3i5, 7net-mf-0, chgnet, or the "
            "import path of an ASE calculator, such as package.module:callable"
        )
    return module, name


def effective_options(settings: ForceFieldSettings) -> dict[str, Any]:
    """Return the options that decide a label's value, with the model's own defaults."""
    options = {key: value for key, value in settings.options.items() if value != DEVICE}
    if settings.model.lower() == "7net-mf-0":
        options.setdefault("modal", "PBE")
    if settings.family == "chgnet" and settings.checkpoint is None:
        options.setdefault("model_name", "0.3.0")
    return options


def calculator(settings: ForceFieldSettings) -> Calculator:
    """Return the ASE calculator; each model is loaded once per process.

    Raises
    ------
    MissingExtraError
        If the package of the model is not installed.
    FileNotFoundError
        If the checkpoint does not exist.
    ValueError
        If an import path leads nowhere.
    """
    relevant = settings.model_dump_json(include={"model", "checkpoint", "options", "device"})
    if relevant not in _LOADED:
        _LOADED[relevant] = _load(settings)
    return _LOADED[relevant]


def _load(settings: ForceFieldSettings) -> Calculator:
    if settings.checkpoint is not None:
        _check_file(settings.checkpoint)
    loaders: dict[str, Callable[[ForceFieldSettings], Calculator]] = {
        "sevennet": _load_sevennet,
        "chgnet": _load_chgnet,
        "custom": _load_custom,
    }
    with without_known_warnings():
        return loaders[settings.family](settings)


def _load_sevennet(settings: ForceFieldSettings) -> Calculator:
    try:
        from sevenn.calculator import SevenNetCalculator
    except ModuleNotFoundError as error:
        raise missing_package("sevenn", settings) from error
    use_one_thread()
    model = settings.model if settings.checkpoint is None else str(settings.checkpoint)
    return SevenNetCalculator(model, device=settings.device, **effective_options(settings))


def _load_chgnet(settings: ForceFieldSettings) -> Calculator:
    try:
        from chgnet.model.dynamics import CHGNetCalculator
        from chgnet.model.model import CHGNet
    except ModuleNotFoundError as error:
        raise missing_package("chgnet", settings) from error
    use_one_thread()
    options = effective_options(settings)
    name = options.pop("model_name", None)
    if settings.checkpoint is None:
        model = CHGNet.load(model_name=name, use_device=settings.device, verbose=False)
    else:
        model = CHGNet.from_file(str(settings.checkpoint))
    return CHGNetCalculator(model, use_device=settings.device, **options)


def _load_custom(settings: ForceFieldSettings) -> Calculator:
    module_name, name = split_import_path(settings.model)
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise InputError(
            f"{settings.model} cannot be imported: {error}; check the import path and that its "
            "package is installed"
        ) from error
    values = {CHECKPOINT: str(settings.checkpoint), DEVICE: settings.device}
    options = {
        key: values.get(value, value) if isinstance(value, str) else value
        for key, value in settings.options.items()
    }
    loaded: Calculator = factory(**options)
    return loaded


def missing_package(package: str, settings: ForceFieldSettings) -> MissingExtraError:
    """Return the error that a model's package is not installed.

    Parameters
    ----------
    package
        Name of the package.
    settings
        Which model needs it.
    """
    return MissingExtraError(package, "forcefield", f"labelling with {settings.model}")


def covered_elements(settings: ForceFieldSettings) -> set[str] | None:
    """Return the chemical symbols that the model covers, or None if it does not say.

    It loads a SevenNet model, because the checkpoint holds the list. CHGNet's embedding has rows
    up to Z = 94, of which Po to Ra were never trained (MPtrj; Deng et al. 2023).
    """
    if settings.family == "sevennet":
        from ase.data import chemical_symbols

        sevennet: Any = calculator(settings)
        return {chemical_symbols[number] for number in sevennet.type_map}
    if settings.family == "chgnet":
        return set(MPTRJ)
    return None


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
        record = "" if declared else distribution.read_text("RECORD") or ""
        if package in declared or re.search(rf"^{package}(/[^,]*)?\.py,", record, re.MULTILINE):
            return distribution.version
    return None


def _file_hash(path: Path) -> str:
    _check_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; check the checkpoint's path")
