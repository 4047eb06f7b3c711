"""What the k-points of a run file mean in its cells, strained or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ionloop.geometry.periodic import supercell
from ionloop.geometry.perturb import random_deformation
from ionloop.preflight.findings import Finding, ok, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import (
    COARSEST_SPACING,
    DEFAULT_SPACING,
    GAMMA,
    KPoints,
    formula,
    mesh_of,
    times,
    widest,
)

KEY = "label.kpoints"


NPT_STRAIN = 0.05
"""Strain that an NPT trajectory may reach: thermal expansion to 1000 K, and its fluctuation."""


SAMPLES = 2000
"""Random strains with which it is looked whether a mesh changes."""


@dataclass(frozen=True)
class Use:
    """Cells that a run labels, and how far they are strained.

    Parameters
    ----------
    cells
        Frames of one: a start cell, or a supercell of it.
    repetitions
        Repetitions of the start cell.
    strain
        Largest strain, as a fraction.
    cause
        What strains them.
    """

    cells: Frames
    repetitions: tuple[int, int, int]
    strain: float
    cause: str


def look_at_kpoints(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Say the mesh of every start cell and supercell; warn where it is coarse or would change.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    kpoints = run_file.label.of_starts(inputs.structures).sampling
    if kpoints is None:
        return
    uses = list(_uses(run_file, inputs.structures))
    found = [each for use in uses for each in _mesh(kpoints, use)]
    found += [each for use in uses for each in _strained(kpoints, use)]
    yield from dict.fromkeys(found)


def _uses(run_file: RunFile, structures: Sequence[Frames]) -> Iterator[Use]:
    initial = run_file.initial
    disturbed = getattr(getattr(run_file.explore, "perturbation", None), "strain", 0.0)
    kinds = [((1, 1, 1), initial.strain if initial.n_perturbed else 0.0, "initial.strain")]
    for stage in run_file.stages:
        npt = stage.ensemble != "nvt"
        reach, cause = (NPT_STRAIN, "NPT") if npt else (disturbed, "explore.perturbation.strain")
        kinds.append((stage.supercell, reach, cause))
    for repetitions, strain, cause in dict.fromkeys(kinds):
        for start in (start for part in structures for start in part):
            yield Use(supercell(start, repetitions), repetitions, strain, cause)


def _mesh(kpoints: KPoints, use: Use) -> Iterator[Finding]:
    mesh, cell = mesh_of(kpoints, use.cells), use.cells.cells[0]
    apart = widest(mesh, cell)
    points = "Γ alone" if mesh == GAMMA else f"{times(mesh)} k-points"
    yield ok(KEY, f"{_named(use)}: {points}, at most {apart:.2f} 1/Å apart")
    if mesh == GAMMA and apart > COARSEST_SPACING:
        sentence = (
            f"Γ alone in {_named(use)}: a cell and its supercell will have labels that contradict "
            f"each other; its reciprocal vectors are up to {apart:.2f} 1/Å long, and beyond "
            f"{COARSEST_SPACING:g} 1/Å (VASP's default spacing) more points are needed"
        )
        yield warning(KEY, sentence, f"say a spacing, such as kpoints: {DEFAULT_SPACING}")


def _strained(kpoints: KPoints, use: Use) -> Iterator[Finding]:
    if use.strain == 0 or not isinstance(kpoints, float):
        return
    random = np.random.default_rng(0)
    cells = (use.cells.cells @ random_deformation(random, use.strain) for _ in range(SAMPLES))
    counts = Counter(mesh_of(kpoints, replace(use.cells, cells=cell)) for cell in cells)
    if len(counts) == 1:
        return
    shares = ", ".join(f"{n / SAMPLES:.0%} {times(mesh)}" for mesh, n in counts.most_common(3))
    sentence = (
        f"{_named(use)}: strained by up to {use.strain:.1%} ({use.cause}), the cells get different "
        f"meshes: {shares}; their labels are of different samplings"
    )
    cure = (
        f"kpoints: {{kept: {kpoints}}} keeps the start cell's mesh; or a spacing further from the "
        "edge"
    )
    yield warning(KEY, sentence, cure)


def _named(use: Use) -> str:
    lengths = np.linalg.norm(use.cells.cells[0], axis=1)
    size = " × ".join(f"{length:.1f}" for length in lengths)
    many = "" if use.repetitions == (1, 1, 1) else f"{times(use.repetitions)} cells of the start, "
    return f"{many}{formula(use.cells)} ({size} Å)"
