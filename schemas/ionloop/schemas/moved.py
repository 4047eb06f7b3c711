"""Where the modules of version 0.1 are now.

A stored job names its function and the classes of its arguments by module. A run that version 0.1
began, and a worker that was set up for it, still ask for these names: `redirect` answers them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pkgutil import iter_modules
from types import CodeType, ModuleType
from typing import Any

# Old module: the modules, or the package, that its names are in today. All lie below `ionloop`.
MOVED = {
    "codes.acceptance": "codes.common.acceptance",
    "codes.advance": "codes.common.progress",
    "codes.conversions": "formats",
    "codes.deepmd_checkpoint": "codes.deepmd.checkpoint",
    "codes.deepmd_input": "codes.deepmd",
    "codes.deepmd_predict": "codes.deepmd.prediction codes.common.prediction",
    "codes.deepmd_settings": "codes.deepmd.settings",
    "codes.dft": "codes.common.dft",
    "codes.dynamics": "codes.common.dynamics",
    "codes.errors": "programs.errors codes.common.errors",
    "codes.gpaw_script": "codes.gpaw.script",
    "codes.lammps_files": "codes.lammps codes.common.trajectory",
    "codes.lammps_folder": "codes.lammps.restart",
    "codes.leftovers": "programs.resume_marker",
    "codes.matching": "geometry.matching",
    "codes.program": "programs.process programs.environment programs.log",
    "codes.side_by_side": "programs.concurrent",
    "codes.structures": "geometry.perturb geometry.periodic formats.reading",
    "codes.tether": "programs.die_with_parent",
    "codes.vasp_presets": "codes.vasp.presets",
    "codes.vasp_results": "codes.vasp.results codes.vasp.comparison",
    "config.check": "preflight",
    "config.codes": "runfile.sections",
    "config.data": "preflight.data",
    "config.document": "runfile.reference",
    "config.engines": "runs.queue runs.launch",
    "config.errors": "runfile.errors",
    "config.estimate": "preflight.cost",
    "config.example": "runfile.example",
    "config.findings": "preflight.findings",
    "config.launch": "runs.launch runs.labels runs.records monitor.records",
    "config.plan": "preflight.plan",
    "config.run_file": "runfile.model runfile.reading",
    "config.sampling": "preflight.sampling",
    "config.tolerances": "runfile.tolerances",
    "makers.base": "jobs",
    "makers.claims": "jobs.label.claims",
    "makers.dynamics": "jobs.label.dynamics",
    "makers.explore": "jobs.explore",
    "makers.imports": "jobs.label.imports",
    "makers.label": "jobs.label",
    "makers.label_dft": "jobs.label.dft",
    "makers.label_external": "jobs.label.external",
    "makers.label_vasp": "jobs.label.vasp",
    "makers.ledger": "jobs.label.ledger",
    "makers.probe": "jobs.label.probe",
    "makers.select": "jobs.select selection.pick",
    "makers.tolerances": "jobs.tolerances",
    "makers.train": "jobs.train",
    "makers.twins": "jobs.label.twins",
    "monitor.queries": "monitor.records monitor.runs monitor.turns monitor.frames",
    "runners.engine": "engines.base",
    "runners.fireworks": "engines.fireworks",
    "runners.fireworks_queue": "engines.fireworks.queue",
    "runners.fireworks_table": "engines.fireworks.records",
    "runners.fireworks_task": "engines.fireworks.task",
    "runners.journal": "engines.local.journal",
    "runners.local": "engines.local.runner engines.local.execution",
    "runners.local_engine": "engines.local.engine",
    "runners.lock": "engines.local.lock",
    "runners.processes": "engines.local.processes",
    "runners.progress": "engines.local.progress",
    "runners.remote": "engines.remote.engine engines.remote.project engines.remote.records",
    "runners.remote_job": "engines.remote.job",
    "runners.resources": "engines.resources",
    "runners.schedule": "engines.local.schedule",
    "runners.worker": "engines.local.worker",
    "selection.distances": "geometry.neighbours geometry.periodic",
    "workflows.concurrent_learning": "flows.concurrent_learning",
    "workflows.decision": "flows.concurrent_learning.decision",
    "workflows.export": "export.folder export.frames export.models",
}

# What has another name today: old module and name, and today's. All lie below `ionloop`.
RENAMED = {
    "makers.dynamics:dynamics_with_ase": "jobs.label.dynamics:run_dynamics",
    "makers.explore:explore_with_lammps": "jobs.explore.dynamics:explore_trajectories",
    "makers.label:label_with_force_field": "jobs.label.batches:label_frames",
    "makers.label:relax_with_force_field": "jobs.label.batches:relax_frames",
    "makers.label_dft:label_with_dft": "jobs.label.batches:label_frames",
    "makers.label_dft:relax_with_dft": "jobs.label.batches:relax_frames",
    "makers.label_vasp:dynamics_with_vasp": "jobs.label.dynamics:run_dynamics",
    "makers.label_vasp:label_with_vasp": "jobs.label.batches:label_frames",
    "makers.label_vasp:relax_with_vasp": "jobs.label.batches:relax_frames",
    "makers.train:evaluate_deepmd": "jobs.train.evaluation:evaluate_ensemble",
    "makers.train:train_deepmd": "jobs.train.members:train_members",
    "makers.train:train_side_by_side": "jobs.train.members:train_members",
}


def redirect() -> None:
    """Let the modules of version 0.1 be found under their old names."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())


class MovedModules(MetaPathFinder, Loader):
    """Finds a module of version 0.1; its names come from the modules that they are in today."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return how to load a module of version 0.1; None for any other.

        Parameters
        ----------
        fullname
            Name of the module.
        path, target
            Not used: see `importlib.abc.MetaPathFinder`.
        """
        return ModuleSpec(fullname, self) if _places(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look its names up where they are today."""

        def lookup(name: str) -> Any:
            old = f"{module.__name__.removeprefix('ionloop.')}:{name}"
            if old in RENAMED:
                place, new = RENAMED[old].split(":")
                return getattr(import_module(f"ionloop.{place}"), new)
            for place in _places(module.__name__):
                for today in map(import_module, _modules(place)):
                    if hasattr(today, name):
                        return getattr(today, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__dict__["__getattr__"] = lookup

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code that ``python -m`` runs."""
        spec = find_spec(_places(fullname)[0])
        assert spec is not None
        code: CodeType | None = spec.loader.get_code(spec.name)  # type: ignore[union-attr]
        return code


def _places(module: str) -> list[str]:
    return [f"ionloop.{name}" for name in MOVED.get(module.removeprefix("ionloop."), "").split()]


def _modules(place: str) -> list[str]:
    """Return the name of a module, or the names of the modules in a package."""
    spec = find_spec(place)
    if spec is None or spec.submodule_search_locations is None:
        return [place]
    return [f"{place}.{each.name}" for each in iter_modules(spec.submodule_search_locations)]
