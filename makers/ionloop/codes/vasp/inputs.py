"""The input files of VASP: tags, k-points, POTCARs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dynamics import MolecularDynamics
from ionloop.codes.vasp import presets
from ionloop.formats.pymatgen import to_pymatgen
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import explicit
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure
    from pymatgen.io.vasp.inputs import VaspInput
    from pymatgen.io.vasp.sets import VaspInputSet

    from ionloop.codes.vasp.settings import VaspSettings


def incar(settings: VaspSettings, **changes: Any) -> dict[str, Any]:
    """Return the INCAR tags of a force label.

    Parameters
    ----------
    settings
        The level of theory.
    **changes
        Tags of another kind of run; None removes one.
    """
    own: dict[str, Any] = {"ENCUT": presets.cutoff(settings)}
    if isinstance(spacing := presets.kpoints(settings), float | int):
        own |= {"KSPACING": spacing, "KGAMMA": True}
    tags = {**presets.FORCE_LABELS, **own, **settings.incar, **changes}
    return {tag: value for tag, value in tags.items() if value is not None}


def plain_tags(settings: VaspSettings, **changes: Any) -> dict[str, Any]:
    """Return the INCAR tags with one value for all species and atoms.

    Parameters
    ----------
    settings, **changes
        As for `incar`.
    """
    tags = incar(settings, **changes)
    return {tag: value for tag, value in tags.items() if not isinstance(value, dict | list)}


def relaxation(settings: VaspSettings) -> dict[str, Any]:
    """Return the INCAR changes that relax positions and cell (conjugate gradients)."""
    return {"IBRION": 2, "ISIF": 3, "NSW": settings.relax_steps, "EDIFFG": -settings.relax_fmax}


def dynamics(run: MolecularDynamics) -> dict[str, Any]:
    """Return the INCAR changes that run molecular dynamics in the NVT ensemble (Nosé-Hoover)."""
    return {
        "IBRION": 0,
        "ISIF": 2,
        "MDALGO": 2,
        "SMASS": 0,
        "NSW": run.steps,
        "POTIM": run.timestep,
        "TEBEG": run.temperature,
        "TEEND": run.temperature,
    }


@dataclass(frozen=True)
class Arrangement:
    """How a frame is passed to VASP: atoms grouped by species, the cell right-handed.

    Parameters
    ----------
    order
        Index in the frame of each atom of the POSCAR, (n,).
    hand
        1, or -1 where the frame is mirrored through the origin.
    """

    order: Array
    hand: int

    @classmethod
    def of(cls, frame: Frames) -> Self:
        """Work out the arrangement of a frame."""
        species = list(dict.fromkeys(frame.symbols))
        order = np.argsort([species.index(symbol) for symbol in frame.symbols], kind="stable")
        return cls(order, 1 if np.linalg.det(frame.cells[0]) > 0 else -1)

    def arrange(self, frame: Frames) -> Frames:
        """Return the frame as it is passed to VASP."""
        return self._ordered(frame, self.order)

    def restore_frame(self, frame: Frames) -> Frames:
        """Return frames of VASP in the order and orientation of the original frame."""
        return self._ordered(frame, np.argsort(self.order))

    def _ordered(self, frame: Frames, order: Array) -> Frames:
        symbols = tuple(frame.symbols[index] for index in order)
        return Frames(symbols, self.hand * frame.positions[:, order], self.hand * frame.cells)

    def restore(self, result: Calculated) -> Calculated:
        """Return a result of VASP in the order and orientation of the original frame."""
        back = np.argsort(self.order)
        return replace(
            result,
            forces=self.hand * result.forces[back],
            positions=None if result.positions is None else self.hand * result.positions[back],
            cell=None if result.cell is None else self.hand * result.cell,
        )


def input_set(settings: VaspSettings, **changes: Any) -> VaspInputSet:
    """Return pymatgen's input set, which holds these settings and no default of its own.

    Parameters
    ----------
    settings
        The level of theory; with kept meshes, the result of `of_frame`.
    **changes
        INCAR tags of another kind of run, such as those of `relaxation`.
    """
    from pymatgen.io.vasp.inputs import Kpoints
    from pymatgen.io.vasp.sets import BadInputSetWarning, VaspInputSet

    symbols = presets.potcars(settings)
    points = explicit(presets.kpoints(settings))
    mesh: Any = Kpoints.gamma_automatic(points) if points else {}
    # pymatgen warns of settings that were chosen on purpose.
    with warnings.catch_warnings(action="ignore", category=BadInputSetWarning):
        return VaspInputSet(
            config_dict={
                "INCAR": {},
                "POTCAR": symbols,
                "POTCAR_FUNCTIONAL": settings.potcar_functional,
            },
            # pymatgen drops or replaces none of the tags that it takes for the user's.
            user_incar_settings=incar(settings, **changes),
            user_kpoints_settings=mesh,
            # pymatgen replaces W by W_sv in PBE_54 unless it is named here too.
            user_potcar_settings={"W": symbols["W"]} if "W" in symbols else {},
            sort_structure=False,
            validate_magmom=False,
        )


def requested_inputs(settings: VaspSettings, frame: Frames, **changes: Any) -> VaspInput:
    """Return the inputs of a frame, with the names of the POTCARs instead of their content.

    Parameters
    ----------
    settings, **changes
        As for `incar`.
    frame
        Frames of one.

    Raises
    ------
    ValueError
        If `frame` is not one frame, or an element has no POTCAR in the settings.
    """
    from pymatgen.io.vasp.sets import BadInputSetWarning

    presets.check_elements(settings, frame.symbols)
    inputs = input_set(presets.of_frame(settings, frame), **changes)
    with warnings.catch_warnings(action="ignore", category=BadInputSetWarning):
        return inputs.get_input_set(to_structure(frame), potcar_spec=True)


def to_structure(frame: Frames) -> Structure:
    """Return the pymatgen Structure of a frame, grouped by species and right-handed.

    Raises
    ------
    ValueError
        If `frame` is not one frame.
    """
    if len(frame) != 1:
        raise ValueError(f"VASP takes one frame, got {len(frame)}")
    structure = to_pymatgen(Arrangement.of(frame).arrange(frame))[0]
    structure.remove_site_property("positions")
    return structure
