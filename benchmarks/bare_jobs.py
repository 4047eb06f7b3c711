"""The labels of `engines.py` as plain jobflow jobs: the cost of an engine without ionloop."""

from __future__ import annotations

from typing import Any

from jobflow import Flow, Response, job


@job
def spread(structures: list[dict[str, Any]]) -> Response[Any]:
    """Add one job per structure, and one that gathers their energies."""
    labels = [label(structure) for structure in structures]
    gathered = gather([each.output for each in labels])
    return Response(replace=Flow([*labels, gathered], output=gathered.output))


@job
def label(structure: dict[str, Any]) -> dict[str, Any]:
    """Calculate energy and forces as the toy labeller does."""
    from ase import Atoms
    from toy_labeller import ToyLabeller

    atoms = Atoms(pbc=True, calculator=ToyLabeller(), **structure)
    forces = atoms.get_forces().tolist()
    return {"energy": float(atoms.get_potential_energy()), "forces": forces}


@job
def gather(labels: list[dict[str, Any]]) -> list[float]:
    """Return the energies."""
    return [each["energy"] for each in labels]
