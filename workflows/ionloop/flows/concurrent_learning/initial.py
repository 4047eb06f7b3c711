"""The first data set: existing data, molecular dynamics by the labeller, perturbed structures."""

from __future__ import annotations

from jobflow import Flow, Job, OutputReference

from ionloop.flows.concurrent_learning.settings import ExistingData, InitialData, Loop
from ionloop.geometry.perturb import perturb
from ionloop.jobs.documents import stored_job
from ionloop.jobs.label.imports import ingest
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LevelOfTheory


def initial_jobs(
    loop: Loop, structures: Reference, n_starts: int
) -> tuple[list[Flow | Job], list[Reference]]:
    """Build the jobs that give the first data set.

    Parameters
    ----------
    loop
        Roles and settings.
    structures
        Start structures, or a reference to them.
    n_starts
        Number of start structures.

    Returns
    -------
    tuple
        The jobs, and the references to their `Labels`.
    """
    if isinstance(structures, OutputReference):  # relaxed structures are single frames already
        starts = [structures[number] for number in range(n_starts)]
    else:
        starts = [frame for part in structures for frame in part]
    runs = [run for section in loop.initial.aimd for run in section.runs]
    sources: list[Flow | Job] = [
        *(_ingest(loop, data) for data in loop.initial.data),
        *(loop.label.aimd([start], run) for run in runs for start in starts),
    ]
    if not loop.initial.n_perturbed:
        return sources, [source.output for source in sources]
    perturbed = perturb_structures(loop.initial, structures, loop.seed)
    assign(perturbed, Role.LABEL, "perturb structures", bookkeeping=True)
    label = loop.label.make(perturbed.output)
    return [*sources, perturbed, label], [source.output for source in (*sources, label)]


@stored_job()
def perturb_structures(initial: InitialData, structures: list[Frames], seed: int) -> list[Frames]:
    """Perturb every start structure.

    Parameters
    ----------
    initial
        How often and how far.
    structures
        The start structures.
    seed
        Seed of the first one; the others follow it.
    """
    return [
        perturb(frames, initial.n_perturbed, initial.displacement, initial.strain, seed + number)
        for number, frames in enumerate(structures)
    ]


def _ingest(loop: Loop, data: ExistingData) -> Job:
    theirs = LevelOfTheory(code="existing data", settings={"level": data.level or data.path})
    level = loop.label.level if data.same_level else theirs
    limits, physical = data.limits(loop.label.terms.limits), getattr(loop.select, "limits", None)
    job = ingest([data.path], data.format, data.type_map, level, limits, physical, data.check_units)
    return assign(job, Role.LABEL, f"ingest {data.path}", bookkeeping=True)
