"""Labels from universal potentials: SevenNet, CHGNet, or any ASE calculator by import path."""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import io
import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from ionloop.codes.acceptance import AcceptanceLimits, Calculated
from ionloop.codes.conversions import from_ase, full_stress, to_ase
from ionloop.codes.dynamics import MolecularDynamics
from ionloop.codes.errors import MissingExtraError
from ionloop.schemas.document import Model
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.packed import Array
from ionloop.schemas.units import Force

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

CHECKPOINT = "{checkpoint}"
DEVICE = "{device}"

FRICTION = 0.01
"""Friction of the Langevin thermostat in 1/fs: temperature settles within some 100 fs."""

# What the third parties say on every load and nobody can act on.
_KNOWN_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`torch\.jit\.\w+` is deprecated", DeprecationWarning),
    ("No tensor product accelerator is enabled", UserWarning),
    ("Converting a tensor with requires_grad=True to a scalar", UserWarning),
    ("logm result may be inaccurate", RuntimeWarning),
)


class RelaxationError(IonloopError, RuntimeError):
    """A relaxation did not converge."""


class DynamicsError(IonloopError, RuntimeError):
    """A run of molecular dynamics exploded."""


class RelaxSettings(Protocol):
    """When a relaxation ends."""

    @property
    def relax_fmax(self) -> float:
        """Largest force at the end, eV/Å."""

    @property
    def relax_steps(self) -> int:
        """Most steps."""


class ForceFieldSettings(Model):
    """A universal potential, or any other ASE calculator, as a labeller."""

    model: str = Field(
        "7net-0",
        description="a SevenNet name (7net-0, 7net-l3i5, 7net-mf-0), chgnet, or the import path "
        "of what returns an ASE calculator, such as ase.calculators.emt:EMT",
    )
    checkpoint: Path | None = Field(
        None, description="local model file, instead of the weights that come with the package"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="keyword arguments of the calculator; for an import path the values "
        "'{checkpoint}' and '{device}' stand for the settings of that name",
    )
    device: str = Field("cpu", description="device of torch: cpu, cuda, cuda:1, …")
    limits: AcceptanceLimits = Field(
        AcceptanceLimits(), description="limits beyond which a label is rejected"
    )
    relax_fmax: Annotated[Force, Field(gt=0)] = Field(
        0.05, description="largest force at the end of a relaxation, eV/Å"
    )
    relax_steps: PositiveInt = Field(500, description="most steps of a relaxation")

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.family == "custom":
            _split_import_path(self.model)
            if self.checkpoint is not None and CHECKPOINT not in self.options.values():
                raise ValueError(
                    f"checkpoint is set but no option of {self.model} takes it; say which one, "
                    f"such as options: {{model: '{CHECKPOINT}'}}"
                )
        return self

    @property
    def family(self) -> str:
        """What `model` names: ``sevennet``, ``chgnet`` or ``custom``."""
        name = self.model.lower()
        if name.startswith(("7net", "sevennet")):
            return "sevennet"
        return "chgnet" if name == "chgnet" else "custom"

    def ase_calculator(self, folder: Path, cores: int) -> Calculator:
        """Return the ASE calculator, which needs neither a folder nor cores."""
        return calculator(self)


def _split_import_path(path: str) -> tuple[str, str]:
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise ValueError(
            f"{path!r} is no known model; use 7net-0, 7net-l3i5, 7net-mf-0, chgnet, or the "
            "import path of an ASE calculator, such as package.module:callable"
        )
    return module, name


def level_of_theory(settings: ForceFieldSettings) -> LevelOfTheory:
    """Describe everything that decides a label's value, without loading the model.

    Device, limits and the place of the checkpoint are left out: they do not change a value.

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
    options = _effective_options(settings)
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
        raise _missing(package, settings) from error


def _custom_version(import_path: str) -> dict[str, str]:
    module, _ = _split_import_path(import_path)
    if version := _installed_version(module.split(".")[0]):
        return {"version": version}
    # A user's own file has no version: its content is its version.
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{import_path}: there is no module {module}; check the import path")
    return {"source sha256": _file_hash(Path(spec.origin))}


@functools.cache
def _installed_version(package: str) -> str | None:
    """Return the version of the distribution that brought a package, if one did.

    `importlib.metadata.packages_distributions` says it too, but reads every file name of every
    distribution: half a second in each job.
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
        raise FileNotFoundError(f"there is no file {path}; check the checkpoint's path")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _effective_options(settings: ForceFieldSettings) -> dict[str, Any]:
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
    return _load(relevant)


@functools.cache
def _load(settings_json: str) -> Calculator:
    settings = ForceFieldSettings.model_validate_json(settings_json)
    if settings.checkpoint is not None and not settings.checkpoint.is_file():
        raise FileNotFoundError(
            f"there is no file {settings.checkpoint}; check the checkpoint's path"
        )
    loaders: dict[str, Callable[[ForceFieldSettings], Calculator]] = {
        "sevennet": _load_sevennet,
        "chgnet": _load_chgnet,
        "custom": _load_custom,
    }
    with _quiet():
        return loaders[settings.family](settings)


def _load_sevennet(settings: ForceFieldSettings) -> Calculator:
    try:
        from sevenn.calculator import SevenNetCalculator
    except ModuleNotFoundError as error:
        raise _missing("sevenn", settings) from error
    _use_one_thread()
    model = settings.model if settings.checkpoint is None else str(settings.checkpoint)
    return SevenNetCalculator(model, device=settings.device, **_effective_options(settings))


def _load_chgnet(settings: ForceFieldSettings) -> Calculator:
    try:
        from chgnet.model.dynamics import CHGNetCalculator
        from chgnet.model.model import CHGNet
    except ModuleNotFoundError as error:
        raise _missing("chgnet", settings) from error
    _use_one_thread()
    options = _effective_options(settings)
    name = options.pop("model_name", None)
    if settings.checkpoint is None:
        model = CHGNet.load(model_name=name, use_device=settings.device, verbose=False)
    else:
        model = CHGNet.from_file(str(settings.checkpoint))
    return CHGNetCalculator(model, use_device=settings.device, **options)


def _load_custom(settings: ForceFieldSettings) -> Calculator:
    module_name, name = _split_import_path(settings.model)
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(
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


def _missing(package: str, settings: ForceFieldSettings) -> MissingExtraError:
    return MissingExtraError(package, "forcefield", f"labelling with {settings.model}")


def _use_one_thread() -> None:
    # Processes run side by side; two threads on busy cores made SevenNet 20 times slower.
    import torch

    torch.set_num_threads(1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep known warnings, and what CHGNet prints on loading, away from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        for message, category in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield


def calculate(calculator: Calculator, frame: Frames) -> Calculated:
    """Calculate energy, forces and, where the calculator has a stress, the virial of a frame.

    The energy is the calculator's free energy if it has one, since its forces derive from
    that, else its energy. A calculator says that it failed by raising.

    Parameters
    ----------
    calculator
        An ASE calculator.
    frame
        Frames of one.

    Raises
    ------
    ValueError
        If `frame` is not one frame.
    """
    if len(frame) != 1:
        raise ValueError(f"calculate takes one frame, got {len(frame)}")
    atoms: Any = to_ase(frame.unlabelled())[0]
    atoms.calc = calculator
    begin = time.perf_counter()
    with _quiet():
        result = _evaluate(atoms)
    return replace(result, seconds=time.perf_counter() - begin)


def _evaluate(atoms: Any) -> Calculated:
    from ase.calculators.calculator import PropertyNotImplementedError

    forces = np.array(atoms.get_forces(), dtype=float)
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
    except PropertyNotImplementedError:
        energy = atoms.get_potential_energy()
    return Calculated(energy=float(energy), forces=forces, virial=_virial(atoms))


def _virial(atoms: Any) -> Array | None:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        stress = atoms.get_stress()
    except PropertyNotImplementedError:
        return None
    virial: Array = -atoms.get_volume() * np.asarray(full_stress(stress), dtype=float)
    return virial


def relax(
    calculator: Calculator, frame: Frames, settings: RelaxSettings, cell: bool = True
) -> Frames:
    """Relax positions and, if asked, the cell of a frame.

    Parameters
    ----------
    calculator
        An ASE calculator, with a stress if the cell relaxes.
    frame
        Frames of one.
    settings
        Force threshold and step limit.
    cell
        Whether the cell relaxes too.

    Returns
    -------
    Frames
        The relaxed frame, bare, on the grid of the ids.

    Raises
    ------
    RelaxationError
        If the forces are not below the threshold within the step limit.
    ValueError
        If `frame` is not one frame.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    if len(frame) != 1:
        raise ValueError(f"relax takes one frame, got {len(frame)}")
    (atoms,) = to_ase(frame.unlabelled())
    atoms.calc = calculator
    with _quiet():
        optimizer = FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
        converged = optimizer.run(fmax=settings.relax_fmax, steps=settings.relax_steps)
    if not converged:
        raise RelaxationError(
            f"{frame.formula} did not relax to {settings.relax_fmax} eV/Å within "
            f"{settings.relax_steps} steps; raise relax_steps or relax_fmax, or check the start"
        )
    (relaxed,) = from_ase([atoms])
    return relaxed.unlabelled().snapped()


def dynamics(calculator: Calculator, frame: Frames, run: MolecularDynamics) -> Iterator[Calculated]:
    """Run molecular dynamics in the NVT ensemble, and yield the steps that `run` keeps.

    Velocities begin as Maxwell and Boltzmann distribute them; the thermostat is Langevin's. Chance
    follows from frame and temperature alone: a run that is repeated visits the same frames.

    Parameters
    ----------
    calculator
        An ASE calculator.
    frame
        Frames of one: the start.
    run
        Temperature, length, and which steps are kept.

    Yields
    ------
    Calculated
        With positions and cell; `seconds` are those since the step that was kept before.

    Raises
    ------
    DynamicsError
        If the positions are finite no more.
    ValueError
        If `frame` is not one frame.
    """
    from ase import units
    from ase.md.langevin import Langevin

    if len(frame) != 1:
        raise ValueError(f"dynamics takes one frame, got {len(frame)}")
    (atoms,) = to_ase(frame.unlabelled())
    atoms.calc = calculator
    chance = np.random.default_rng([int(frame.ids[0], 16), round(1000 * run.temperature)])
    spread = np.sqrt(atoms.get_masses() * units.kB * run.temperature)
    atoms.set_momenta(spread[:, None] * chance.standard_normal((len(atoms), 3)))
    md = Langevin(
        atoms,
        run.timestep * units.fs,
        temperature_K=run.temperature,
        friction=FRICTION / units.fs,
        fixcm=False,  # held, it would spoil the distribution of small cells
        rng=chance,
    )
    for step in run.kept:
        begin = time.perf_counter()
        with _quiet():
            md.run(step - md.nsteps)
            result = _evaluate(atoms)
        if not np.isfinite(atoms.positions).all():
            raise DynamicsError(
                f"molecular dynamics of {frame.formula} at {run.temperature:g} K exploded within "
                f"{step} steps; shorten timestep, or check the start structure"
            )
        seconds = time.perf_counter() - begin
        place = {"positions": atoms.positions.copy(), "cell": atoms.cell.array.copy()}
        yield replace(result, **place, seconds=seconds)


def covered_elements(settings: ForceFieldSettings) -> set[str] | None:
    """Return the chemical symbols that the model knows, or None where it does not say.

    Loads a SevenNet model, because its checkpoint holds the list. CHGNet's embedding has rows
    up to Z = 94, of which Po to Ra were never trained (MPtrj; Deng et al. 2023).
    """
    from ase.data import chemical_symbols

    if settings.family == "sevennet":
        sevennet: Any = calculator(settings)
        return {chemical_symbols[number] for number in sevennet.type_map}
    if settings.family == "chgnet":
        return {*chemical_symbols[1:84], *chemical_symbols[89:95]}
    return None
