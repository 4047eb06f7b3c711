"""Calculate, relax and run molecular dynamics with any ASE calculator."""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.formats.ase import from_ase, to_ase
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from ionloop.codes.common.labeller import Labeller

FRICTION = 0.01
"""Friction of the Langevin thermostat in 1/fs: the temperature settles within about 100 fs."""

_KNOWN_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`torch\.jit\.\w+` is deprecated", DeprecationWarning),
    ("No tensor product accelerator is enabled", UserWarning),
    ("Converting a tensor with requires_grad=True to a scalar", UserWarning),
    ("logm result may be inaccurate", RuntimeWarning),
)
"""Warnings that other packages give every time and that no user can do anything about."""


class RelaxationError(IonloopError, RuntimeError):
    """A relaxation did not converge."""


class DynamicsError(IonloopError, RuntimeError):
    """A run of molecular dynamics exploded."""


class NotConvergedError(IonloopError, RuntimeError):
    """The electronic steps did not converge during a relaxation or molecular dynamics."""


@contextlib.contextmanager
def without_known_warnings() -> Iterator[None]:
    """Hide known warnings, and what CHGNet prints when it is loaded."""
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
    atoms = _atoms(calculator, frame, "calculate")
    begin = time.perf_counter()
    with without_known_warnings():
        result = evaluate(atoms)
    return replace(result, seconds=time.perf_counter() - begin)


def _atoms(calculator: Calculator, frame: Frames, task: str) -> Any:
    if len(frame) != 1:
        raise ValueError(f"{task} takes one frame, got {len(frame)}")
    (atoms,) = to_ase(frame.unlabelled())
    atoms.calc = calculator
    return atoms


def evaluate(atoms: Any) -> Calculated:
    """Return what the calculator of an ASE `Atoms` says of it: energy, forces and virial.

    The energy is the free energy where there is one; without a stress there is no virial.
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    forces = np.array(atoms.get_forces(), dtype=float)
    try:
        energy = atoms.get_potential_energy(force_consistent=True)
    except PropertyNotImplementedError:
        energy = atoms.get_potential_energy()
    virial: Array | None = None
    with contextlib.suppress(PropertyNotImplementedError):
        stress = np.array(atoms.get_stress(voigt=False), dtype=float)
        virial = -atoms.get_volume() * stress
    return Calculated(energy=float(energy), forces=forces, virial=virial)


def relax(calculator: Calculator, frame: Frames, settings: Labeller, cell: bool = True) -> Frames:
    """Relax positions and, if asked, the cell of a frame.

    Parameters
    ----------
    calculator
        An ASE calculator, with a stress if the cell relaxes.
    frame
        Frames of one.
    settings
        Their `relax_fmax` and `relax_steps` say when the relaxation ends.
    cell
        Whether the cell relaxes too.

    Returns
    -------
    Frames
        The relaxed frame without labels, on the grid of the ids.

    Raises
    ------
    RelaxationError
        If the forces are not below the threshold within the step limit.
    ValueError
        If `frame` is not one frame.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    atoms = _atoms(calculator, frame, "relax")
    with without_known_warnings():
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

    The initial velocities follow the Maxwell-Boltzmann distribution; the thermostat is Langevin's.
    The random numbers depend on frame and temperature only: a repeated run visits the same frames.

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
        With positions and cell; `seconds` count from the step that was kept before.

    Raises
    ------
    DynamicsError
        If the positions are no longer finite.
    ValueError
        If `frame` is not one frame.
    """
    from ase import units
    from ase.md.langevin import Langevin

    atoms = _atoms(calculator, frame, "dynamics")
    rng = np.random.default_rng([int(frame.ids[0], 16), round(1000 * run.temperature)])
    spread = np.sqrt(atoms.get_masses() * units.kB * run.temperature)
    atoms.set_momenta(spread[:, None] * rng.standard_normal((len(atoms), 3)))
    md = Langevin(
        atoms,
        run.timestep * units.fs,
        temperature_K=run.temperature,
        friction=FRICTION / units.fs,
        fixcm=False,  # a fixed centre of mass would distort the velocities in small cells
        rng=rng,
    )
    for step in run.kept:
        begin = time.perf_counter()
        with without_known_warnings():
            md.run(step - md.nsteps)
            result = evaluate(atoms)
        if not np.isfinite(atoms.positions).all():
            raise DynamicsError(
                f"molecular dynamics of {frame.formula} at {run.temperature:g} K exploded within "
                f"{step} steps; shorten timestep, or check the start structure"
            )
        seconds = time.perf_counter() - begin
        place = {"positions": atoms.positions.copy(), "cell": atoms.cell.array.copy()}
        yield replace(result, **place, seconds=seconds)


def as_calculator(calculate: Callable[[Frames], Calculated]) -> Calculator:
    """Return an ASE calculator around a function that calculates one frame.

    Parameters
    ----------
    calculate
        Calculates Frames of one. Its errors pass through; electronic steps that did not converge
        raise `NotConvergedError`.
    """
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    class FrameCalculator(Calculator):
        # ASE declares an instance variable
        implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

        def calculate(
            self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            bare = atoms.copy()
            result = calculate(from_ase([bare])[0])
            if not result.converged:
                raise NotConvergedError("the electronic steps did not converge")
            self.results = {
                "energy": result.energy,
                "free_energy": result.energy,
                "forces": result.forces,
            }
            if result.virial is not None:
                stress = -result.virial / bare.get_volume()
                self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    return FrameCalculator()
