"""What LAMMPS reads and writes: the cell it wants, data file, input script, output tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt

from ionloop.codes.program import Command
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.units import Femtoseconds, Force, Length, Pressure, Seconds, Temperature

Ensemble = Literal["nvt", "npt-iso", "npt-aniso", "npt-tri"]

_BAROSTATS = {"npt-iso": "iso", "npt-aniso": "aniso", "npt-tri": "tri"}
_LARGEST_SEED = 900_000_000  # of LAMMPS' Marsaglia generator
_BOX = "ITEM: BOX BOUNDS xy xz yz"


class LammpsSettings(Model):
    """How LAMMPS is run, and when a trajectory has exploded."""

    command: Command = Field(
        "lmp", description="command that runs LAMMPS, with its launcher (such as srun) if any"
    )
    skin: Length = Field(2.0, gt=0, description="skin of the neighbour list in Å")
    thermostat_damping: Femtoseconds = Field(
        100.0, gt=0, description="relaxation time of the Langevin thermostat in fs"
    )
    barostat_damping: Femtoseconds = Field(
        500.0, gt=0, description="relaxation time of the Nosé-Hoover barostat in fs"
    )
    stop_max_devi_f: Force = Field(
        10.0, gt=0, description="max_devi_f in eV/Å above which a trajectory has exploded"
    )
    stop_temperature_factor: float = Field(
        5.0,
        gt=1,
        description="a trajectory this many times hotter than its target has exploded, without "
        "what is left of the heat of its start's perturbation",
    )
    stop_distance: Length = Field(
        0.5, gt=0, description="distance in Å below which two atoms have collapsed"
    )
    stall_timeout: Seconds = Field(
        600.0, gt=0, description="seconds without a new frame after which LAMMPS is ended"
    )
    restart_every: PositiveInt = Field(
        10_000,
        description="steps between restart files, from which a trajectory goes on after its worker "
        "was lost; a shorter one is begun anew",
    )

    def hottest(self, temperature: float) -> float:
        """Return the temperature in K above which a trajectory at `temperature` has exploded.

        What is left of the perturbation's own heat (`TrajectoryTask.heat_at`) comes on top.
        """
        return self.stop_temperature_factor * temperature


class TrajectoryTask(Model):
    """One trajectory to run."""

    index: int = Field(description="number within the exploration; it names the files")
    start: Frames = Field(description="start configuration: one frame")
    temperature: Temperature
    pressure: Pressure = Field(description="NVT does not use it")
    structure: int = Field(0, description="number of the start structure")
    driver: int = Field(
        0, description="number of the model whose forces move the atoms, counted round and round"
    )
    heat: Temperature = Field(
        0.0, description="what the perturbation of the start may add to the temperature at first"
    )
    seed: int = Field(description="seed of the velocities and of the thermostat")
    ensemble: Ensemble = Field(
        description="NVT, or NPT with an isotropic, anisotropic or triclinic barostat"
    )
    steps: int = Field(description="MD steps; steps 0 and `steps` are both part of the trajectory")
    timestep: Femtoseconds
    dump_every: int = Field(
        description="steps between the frames that are kept, each with its model deviation"
    )

    @property
    def name(self) -> str:
        """Stem of the trajectory's file names."""
        return f"trajectory-{self.index:04d}"

    @property
    def group(self) -> str:
        """Group of its frames, which no other trajectory has."""
        return f"md {self.start.ids[0]} {self.seed}"

    @property
    def n_frames(self) -> int:
        """Number of frames of the whole trajectory."""
        return self.steps // self.dump_every + 1

    def heat_at(self, steps: Array, damping: float) -> Array:
        """Return what is left of the perturbation's heat in K at MD steps, (f,).

        A Langevin thermostat of relaxation time `damping` (fs) takes kinetic energy out at twice
        its rate; vibrations hold half of theirs as potential energy, so that heat decays with
        ``exp(-t / damping)``.
        """
        left: Array = self.heat * np.exp(-np.asarray(steps) * self.timestep / damping)
        return left

    def in_turn(self, models: Sequence[str]) -> list[str]:
        """Return the models with the one that drives this trajectory first.

        LAMMPS moves the atoms by the forces of the first model. The deviation is of all models, in
        whatever order.
        """
        first = self.driver % max(len(models), 1)
        return [*models[first:], *models[:first]]


@dataclass(frozen=True)
class Leg:
    """A part of a trajectory, between two restart files.

    Every leg begins by reading all that it needs, so a trajectory is the same to the last bit
    whether one process runs all of its legs or each is run by another.

    Parameters
    ----------
    trajectory
        Stem of the trajectory's file names.
    number
        Number of the leg, from 0 on.
    first, last
        MD steps between which it runs.
    is_final
        Whether the trajectory ends with it.
    """

    trajectory: str
    number: int
    first: int
    last: int
    is_final: bool

    @property
    def name(self) -> str:
        """Stem of the leg's file names."""
        return self.stem(self.number)

    def stem(self, number: int) -> str:
        """Return the stem of the file names of any leg of the trajectory."""
        return f"{self.trajectory}.{number}" if number else self.trajectory

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the files that it writes."""
        return tuple(f"{self.name}.{kind}" for kind in ("dump", "deviation", "temperature", "log"))

    @property
    def restart(self) -> str:
        """Name of the restart file that it begins with."""
        return f"{self.name}.restart"

    @property
    def next_restart(self) -> str:
        """Name of the restart file that it leaves."""
        return f"{self.stem(self.number + 1)}.restart"


def legs(task: TrajectoryTask, settings: LammpsSettings) -> list[Leg]:
    """Divide a trajectory into legs that end where a frame is kept."""
    length = -(-settings.restart_every // task.dump_every) * task.dump_every
    bounds = [*range(0, task.steps, length), task.steps]
    return [
        Leg(task.name, number, first, last, last == task.steps)
        for number, (first, last) in enumerate(pairwise(bounds))
    ]


@dataclass(frozen=True, eq=False)
class RestrictedCell:
    """A cell as LAMMPS wants it (lower triangular, small tilts), and the way back.

    LAMMPS' vectors are ``x_lammps = x @ rotation`` and its cell is
    ``reduction @ cell @ rotation``: a rotation by QR decomposition (with a reflection where the
    cell is left-handed, which no potential can tell), then whole lattice vectors are taken off
    until no tilt exceeds half an edge. The lattice, and so the crystal, stays the same.

    Parameters
    ----------
    cell
        LAMMPS' cell in Å, lower triangular, (3, 3).
    rotation
        Orthogonal matrix, (3, 3).
    reduction
        Integer matrix of determinant 1, (3, 3).
    """

    cell: Array
    rotation: Array
    reduction: Array

    @classmethod
    def of(cls, cell: Array) -> Self:
        """Restrict a cell whose rows are lattice vectors in Å, (3, 3)."""
        orthogonal, upper = np.linalg.qr(cell.T)
        signs = np.sign(np.diag(upper))
        reduced, reduction = upper.T * signs, np.eye(3)
        for row, column in ((1, 0), (2, 1), (2, 0)):
            times = np.rint(reduced[row, column] / reduced[column, column])
            reduced[row] -= times * reduced[column]
            reduction[row] -= times * reduction[column]
        return cls(reduced, orthogonal * signs, reduction)

    def vectors(self, vectors: Array) -> Array:
        """Rotate vectors (..., 3) into LAMMPS' frame."""
        rotated: Array = vectors @ self.rotation
        return rotated

    def vectors_back(self, vectors: Array) -> Array:
        """Rotate vectors (..., 3) from LAMMPS' frame back."""
        rotated: Array = vectors @ self.rotation.T
        return rotated

    def cells_back(self, cells: Array) -> Array:
        """Turn LAMMPS' cells (..., 3, 3) back into cells of the original shape and setting."""
        inverse = np.rint(np.linalg.inv(self.reduction))
        restored: Array = inverse @ cells @ self.rotation.T
        return restored


def data_file(start: Frames, type_map: Sequence[str]) -> str:
    """Return the LAMMPS data file of one frame.

    Every type of the type map is declared with its mass, present or not: a potential knows them
    all. The box is always triclinic, which lets every ensemble run in it.

    Parameters
    ----------
    start
        One frame; its atoms keep their order and may lie outside the cell.
    type_map
        Chemical symbols of the LAMMPS types 1, 2, ...

    Raises
    ------
    ValueError
        If an element of the frame is not in the type map.
    """
    from ase.data import atomic_masses, atomic_numbers

    _check_elements(start, type_map)
    restricted = RestrictedCell.of(start.cells[0])
    (a, b, c), (xy, xz, yz) = np.diag(restricted.cell), restricted.cell[(1, 2, 2), (0, 0, 1)]
    types = [type_map.index(symbol) + 1 for symbol in start.symbols]
    rows = zip(types, restricted.vectors(start.positions[0]), strict=True)
    lines = [
        f"{start.formula}\n",
        f"{start.n_atoms} atoms\n{len(type_map)} atom types\n",
        f"0 {a:.17g} xlo xhi\n0 {b:.17g} ylo yhi\n0 {c:.17g} zlo zhi",
        f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz\n",
        "Masses\n",
        *(f"{i} {atomic_masses[atomic_numbers[s]]:.10g}" for i, s in enumerate(type_map, 1)),
        "\nAtoms # atomic\n",
        *(f"{i} {t} {x:.17g} {y:.17g} {z:.17g}" for i, (t, (x, y, z)) in enumerate(rows, 1)),
    ]
    return "\n".join(lines) + "\n"


def _check_elements(start: Frames, type_map: Sequence[str]) -> None:
    missing = sorted(set(start.symbols) - set(type_map))
    if missing:
        raise ValueError(
            f"the potential was not trained on {', '.join(missing)} of {start.formula}; "
            f"its type map is {' '.join(type_map)}: add the missing elements to the training data"
        )


def input_script(
    task: TrajectoryTask,
    models: Sequence[str],
    type_map: Sequence[str],
    settings: LammpsSettings,
    first_leg: int = 0,
) -> str:
    """Return the commands that run one trajectory; sections of a script follow each other.

    The thermostat is Langevin's: a perturbed start holds excess potential energy, which friction
    on every atom takes out at once, where a Nosé-Hoover chain would swing about the target for
    longer than a short trajectory lasts. NPT adds a Nosé-Hoover barostat (``fix nph``).

    The run halts when the temperature is exceeded, beyond what is left of the perturbation's heat,
    or the file ``<name>.stop`` appears, and then LAMMPS goes on with the next section. At the end,
    halted or not, ``<name>.over`` is written.

    Parameters
    ----------
    task
        The trajectory.
    models
        Files of the potentials.
    type_map
        Chemical symbols of the LAMMPS types 1, 2, ...
    settings
        Neighbour skin, damping times, limit of the temperature, length of a leg.
    first_leg
        Leg to begin with, whose restart file is there.
    """
    parts = [
        _leg_script(leg, task, models, type_map, settings) + _leg_end(leg)
        for leg in legs(task, settings)[first_leg:]
    ]
    return f"variable began timer\n{''.join(parts)}"


def _leg_script(
    leg: Leg,
    task: TrajectoryTask,
    models: Sequence[str],
    type_map: Sequence[str],
    settings: LammpsSettings,
) -> str:
    name, every = leg.name, task.dump_every
    limit = settings.hottest(task.temperature)
    cooling = task.timestep / settings.thermostat_damping
    # A restart file does not hold the state of the thermostat's random numbers.
    seed = 1 + (task.seed + leg.number) % (_LARGEST_SEED - 1)
    damping = settings.thermostat_damping / 1000  # metal units count in ps
    return f"""\
log {name}.log
clear
units metal
atom_style atomic
atom_modify map yes
boundary p p p
neighbor {settings.skin:g} bin
neigh_modify every 1 delay 0 check yes
{f"read_restart {leg.restart}" if leg.number else f"read_data {name}.data"}
pair_style deepmd {" ".join(task.in_turn(models))} out_freq {every} out_file {name}.deviation
pair_coeff * * {" ".join(type_map)}
{"" if leg.number else _velocities(task, seed)}timestep {task.timestep / 1000:g}
fix motion all {_integrator(task, settings)}
fix thermostat all langevin {task.temperature:g} {task.temperature:g} {damping:g} {seed} zero yes
fix thermometer all ave/time {every} 1 {every} c_thermo_temp file {name}.temperature
dump frames all custom {every} {name}.dump id xu yu zu
dump_modify frames sort id format float %.12g
thermo {every}
thermo_modify flush yes
variable temperature equal temp-{task.heat:.10g}*exp(-step*{cooling:.10g})
variable stop equal is_file({task.name}.stop)
fix hot all halt 1 v_temperature > {limit:g} error continue
fix stop all halt {every} v_stop > 0 error continue
run {leg.last - leg.first}
"""


def _leg_end(leg: Leg) -> str:
    # `clear` closes the files before anything says that they are whole.
    if leg.is_final:
        return f"""\
label {leg.trajectory}.over
clear
variable ended timer
print "$(v_ended-v_began)" append {leg.trajectory}.seconds
print "" file {leg.trajectory}.over
"""
    return f"""\
if "$(step) < {leg.last}" then "jump SELF {leg.trajectory}.over"
write_restart {leg.trajectory}.partial
clear
variable ended timer
print "$(v_ended-v_began)" append {leg.trajectory}.seconds
variable began timer
shell mv {leg.trajectory}.partial {leg.next_restart}
"""


def _velocities(task: TrajectoryTask, seed: int) -> str:
    shape = "mom yes rot no dist gaussian"
    return f"velocity all create {task.temperature:g} {seed} {shape}\n"


def _integrator(task: TrajectoryTask, settings: LammpsSettings) -> str:
    if task.ensemble == "nvt":
        return "nve"
    # Scaling about the origin keeps the box's corner there, and so the frames' too.
    barostat = f"{task.pressure:g} {task.pressure:g} {settings.barostat_damping / 1000:g}"
    return f"nph {_BAROSTATS[task.ensemble]} {barostat} fixedpoint 0 0 0"


def read_rows(path: Path, n_columns: int) -> Array:
    """Read a table of numbers as far as it was written.

    Comments are passed over, and an unfinished last line, of a program that was ended, is not
    read.

    Parameters
    ----------
    path
        The file; one that does not exist has no rows.
    n_columns
        Numbers per row.

    Returns
    -------
    Array
        (rows, n_columns)
    """
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [line.split() for line in lines if not line.startswith("#")]
    return np.array(rows, dtype=float).reshape(-1, n_columns)


def read_last_row(path: Path) -> Array | None:
    """Read the last finished row of a growing table, or None if there is none yet."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        finished = file.read().decode().split("\n")[:-1]
    if not finished or finished[-1].startswith("#"):
        return None
    return np.array(finished[-1].split(), dtype=float)


def read_dump(path: Path, start: Frames) -> tuple[Array, Frames]:
    """Read the frames of a dump of ``id xu yu zu``, sorted by id, as far as they are whole.

    Parameters
    ----------
    path
        The file; one that does not exist has no frames.
    start
        The frame that the trajectory began with: it gives symbols and orientation.

    Returns
    -------
    tuple[Array, Frames]
        Steps (f,) and frames in the start's orientation and lattice setting, unwrapped. An
        unfinished frame, or one that lost atoms, and all that follow are left out.
    """
    blocks = list(_blocks(path, start.n_atoms))
    steps = np.array([step for step, _, _ in blocks], dtype=int)
    cells = np.array([cell for _, cell, _ in blocks]).reshape(-1, 3, 3)
    positions = np.array([atoms for _, _, atoms in blocks]).reshape(-1, start.n_atoms, 3)
    restricted = RestrictedCell.of(start.cells[0])
    frames = Frames(start.symbols, restricted.vectors_back(positions), restricted.cells_back(cells))
    return steps, frames


def _blocks(path: Path, n_atoms: int) -> Iterator[tuple[int, Array, Array]]:
    lines = iter(path.read_text().split("\n")[:-1] if path.exists() else [])
    while block := list(islice(lines, n_atoms + 9)):
        if len(block) < n_atoms + 9 or int(block[3]) != n_atoms:
            return
        if not block[4].startswith(_BOX):
            raise ValueError(f"{path} is not a dump of a triclinic box: it says {block[4]!r}")
        atoms = np.array([line.split() for line in block[9:]], dtype=float)
        yield int(block[1]), _box_to_cell(block[5:8]), atoms[:, 1:]


def _box_to_cell(lines: Sequence[str]) -> Array:
    # https://docs.lammps.org/Howto_triclinic.html: the dump gives the bounding box and the tilts.
    (xlo, xhi, xy), (ylo, yhi, xz), (zlo, zhi, yz) = np.array(
        [line.split() for line in lines], dtype=float
    )
    tilts = (0.0, xy, xz, xy + xz)
    a = (xhi - max(tilts)) - (xlo - min(tilts))
    b = (yhi - max(0.0, yz)) - (ylo - min(0.0, yz))
    return np.array([[a, 0.0, 0.0], [xy, b, 0.0], [xz, yz, zhi - zlo]])
