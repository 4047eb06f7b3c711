"""The commands that LAMMPS runs."""

from __future__ import annotations

from collections.abc import Sequence

from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps.restart import Leg, legs
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.schemas.potential import DEEPMD

PAIR_STYLES = {"deepmd": "deepmd {models} out_freq {every} out_file {deviation}"}
"""The pair style of every kind of potential that LAMMPS can run here.

It takes the files of all models, moves the atoms by the forces of the first, and every so many
steps writes the deviations of all to a file, in the columns of `read_rows`.
"""

_BAROSTATS = {"npt-iso": "iso", "npt-aniso": "aniso", "npt-tri": "tri"}

_LARGEST_SEED = 900_000_000  # of LAMMPS' Marsaglia generator


def input_script(
    task: TrajectoryTask,
    models: Sequence[str],
    type_map: Sequence[str],
    settings: LammpsSettings,
    first_leg: int = 0,
    kind: str = DEEPMD,
) -> str:
    """Return the commands that run one trajectory; a script is the sections of all trajectories.

    The thermostat is a Langevin thermostat: a perturbed start has excess potential energy, which
    friction on every atom removes at once, while a Nosé-Hoover chain would oscillate about the
    target for longer than a short trajectory lasts. NPT adds a Nosé-Hoover barostat (``fix nph``).

    The run halts when the temperature exceeds its limit by more than what is left of the heat of
    the perturbation, or when the file ``<name>.stop`` appears; LAMMPS then continues with the next
    section. At the end, halted or not, ``<name>.over`` is written.

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
        Leg to begin with, whose restart file must be there.
    kind
        Kind of the potentials, a key of `PAIR_STYLES`.
    """
    parts = [
        _leg_script(leg, task, _potential(leg, task, models, type_map, kind), settings)
        + _leg_end(leg)
        for leg in legs(task, settings)[first_leg:]
    ]
    return f"variable began timer\n{''.join(parts)}"


def _potential(
    leg: Leg, task: TrajectoryTask, models: Sequence[str], type_map: Sequence[str], kind: str
) -> str:
    style = PAIR_STYLES[kind].format(
        models=" ".join(task.in_turn(models)),
        every=task.dump_every,
        deviation=f"{leg.name}.deviation",
    )
    return f"pair_style {style}\npair_coeff * * {' '.join(type_map)}"


def _leg_script(leg: Leg, task: TrajectoryTask, potential: str, settings: LammpsSettings) -> str:
    name, every = leg.name, task.dump_every
    limit = settings.hottest(task.temperature)
    cooling = task.timestep / settings.thermostat_damping
    # A restart file does not hold the state of the thermostat's random numbers.
    seed = 1 + (task.seed + leg.number) % (_LARGEST_SEED - 1)
    damping = settings.thermostat_damping / 1000  # metal units count in ps
    hot, shape = f"{task.temperature:g}", "mom yes rot no dist gaussian"
    velocities = "" if leg.number else f"velocity all create {hot} {seed} {shape}\n"
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
{potential}
{velocities}timestep {task.timestep / 1000:g}
fix motion all {_integrator(task, settings)}
fix thermostat all langevin {hot} {hot} {damping:g} {seed} zero yes
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
    # `clear` closes the files before a later command says that they are complete.
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


def _integrator(task: TrajectoryTask, settings: LammpsSettings) -> str:
    if task.ensemble == "nvt":
        return "nve"
    # Scaling about the origin keeps the box's corner there, and so the frames' too.
    barostat = f"{task.pressure:g} {task.pressure:g} {settings.barostat_damping / 1000:g}"
    return f"nph {_BAROSTATS[task.ensemble]} {barostat} fixedpoint 0 0 0"
