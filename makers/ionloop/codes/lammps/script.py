"""What LAMMPS reads and writes: the cell it wants, data file, input script, output tables."""

from __future__ import annotations

from collections.abc import Sequence

from ionloop.codes.common.trajectory import TrajectoryTask
from ionloop.codes.lammps.restart import Leg, legs
from ionloop.codes.lammps.settings import LammpsSettings

_BAROSTATS = {"npt-iso": "iso", "npt-aniso": "aniso", "npt-tri": "tri"}

_LARGEST_SEED = 900_000_000  # of LAMMPS' Marsaglia generator


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
