"""Compare the level of theory of a run with that of the settings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.vasp.inputs import Arrangement, plain_tags, requested_inputs
from ionloop.codes.vasp.potcars import SAME_POTCAR, PotcarIdentity, identify, identities
from ionloop.codes.vasp.results import VaspError, file_of, read_vasprun
from ionloop.codes.vasp.tags import RESCUES, deciding, no_ground_state, plain
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from pymatgen.io.vasp.inputs import Incar, Kpoints, Potcar

    from ionloop.codes.vasp.settings import VaspSettings


# Tags that VASP may overrule, by their names in vasprun.xml, which holds the values in use.
_EFFECTIVE = {"ENMAX": "ENCUT", "ISMEAR": "ISMEAR", "SIGMA": "SIGMA", "ISPIN": "ISPIN"}


def check_program(settings: VaspSettings, frame: Frames, folder: Path) -> None:
    """Check that a run used the version of VASP and the POTCARs of the level of theory.

    Parameters
    ----------
    settings
        The level that was asked for.
    frame
        The one frame that was asked for.
    folder
        Where the run was: POTCAR and vasprun.xml, gzipped or not.

    Raises
    ------
    OtherLevelError
        With what differs, and the cure.
    VaspError
        If vasprun.xml or POTCAR cannot be read.
    """
    vasprun = read_vasprun(folder)
    known = identities(settings)
    wanted = [known.get(symbol) for symbol in dict.fromkeys(frame.symbols)]
    differences = [
        *_version_differences(settings.version, vasprun.vasp_version.strip()),
        *_potential_differences(wanted, _read_potcar(folder), vasprun.potcar_symbols),
    ]
    if differences:
        raise OtherLevelError(f"the run is not of the level asked for: {'; '.join(differences)}")


def _version_differences(asked: str, used: str) -> Iterator[str]:
    if used != asked and not used.startswith(f"{asked}."):
        yield (
            f"VASP {used} ran and label.version says {asked}: let label.vasp_cmd start the other "
            f"one, or set label.version: '{used}'"
        )


def _potential_differences(
    wanted: Sequence[PotcarIdentity | None], potcar: Potcar, titles: Sequence[str]
) -> Iterator[str]:
    if not len(wanted) == len(potcar) == len(titles):
        yield f"VASP read {len(titles)} potentials, its POTCAR holds {len(potcar)}"
        return
    for asked, single, title in zip(wanted, potcar, titles, strict=True):
        found, read = identify(single), " ".join(title.split())
        # VASP reports the first line, which is the TITEL except in a few old potentials.
        if read not in (found.title, " ".join(single.header.split())):
            yield f"VASP read the potential {read}, and its POTCAR holds {found.title}"
        if asked is None or found != asked:
            said = asked.words if asked else "one that is not known"
            yield f"the POTCAR was {found.words}, and the labels are of {said}: {SAME_POTCAR}"


def compare_level(settings: VaspSettings, frame: Frames, folder: Path, **changes: Any) -> str:
    """Say how the last run in a folder differs from the level that was asked for.

    The handlers of custodian rescue a run by changing its inputs. Tags that only decide how a
    result is reached (`FREE`) may change; any other change makes the label one of another level.

    Parameters
    ----------
    settings
        The level that was asked for.
    frame
        The one frame that was asked for.
    folder
        Where the run was: INCAR, KPOINTS and vasprun.xml, gzipped or not.
    **changes
        INCAR tags of another kind of run.

    Returns
    -------
    str
        A sentence, or an empty string if the level is the one asked for.

    Raises
    ------
    VaspError
        If vasprun.xml cannot be read.
    """
    from pymatgen.io.vasp.inputs import Incar, Kpoints

    asked = requested_inputs(settings, frame, **changes)
    # pymatgen replaces some tags with nothing but a warning.
    asked["INCAR"].update(plain_tags(settings, **changes))
    vasprun = read_vasprun(folder)
    done = Incar.from_file(file_of(folder, "INCAR"))
    points = file_of(folder, "KPOINTS")
    mesh = Kpoints.from_file(points) if points.exists() else None
    differences = [
        *_incar_differences(asked["INCAR"], done, vasprun.parameters),
        *_changed("KPOINTS", _mesh(asked["KPOINTS"]), _mesh(mesh)),
    ]
    potcars = " ".join(title.split()[1] for title in vasprun.potcar_symbols)
    differences += _changed("POTCAR", " ".join(asked["POTCAR.spec"].split()), potcars)
    arranged = Arrangement.of(frame).arrange(frame).symbols
    if list(arranged) != list(vasprun.atomic_symbols):
        orders = (" ".join(dict.fromkeys(each)) for each in (arranged, vasprun.atomic_symbols))
        differences.append(f"the atoms, in the order of the POTCAR: {' → '.join(orders)}")
    return f"the run differs from the request: {'; '.join(differences)}" if differences else ""


def _incar_differences(asked: Incar, done: Incar, effective: Mapping[str, Any]) -> Iterator[str]:
    wanted, used = deciding(asked), deciding(done)
    for tag in sorted({*wanted, *used} - (RESCUES - set(wanted))):
        before, after = wanted.get(tag), used.get(tag)
        if not _same(before, after):
            yield f"{tag} {_word(before)} → {_word(after)}"
    yield from no_ground_state(done)
    for name, tag in _EFFECTIVE.items():
        said, applied = done.get(tag), effective.get(name)
        if said is not None and applied is not None and not _same(said, applied):
            yield f"VASP used {name} {_word(applied)} where INCAR says {tag} {_word(said)}"


def _changed(name: str, before: str, after: str) -> list[str]:
    return [] if before == after else [f"{name} {before} → {after}"]


def _mesh(points: Kpoints | None) -> str:
    if points is None:
        return "none"
    style = points.style.name
    # An odd Monkhorst-Pack mesh is Γ-centred.
    if style == "Monkhorst" and all(n % 2 for n in points.kpts[0]):
        style = "Gamma"
    divisions = ", ".join("×".join(f"{n:g}" for n in row) for row in points.kpts)
    shift = "" if not any(points.kpts_shift) else f" shifted by {points.kpts_shift}"
    return f"{style} {divisions}{shift}"


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, int | float) and isinstance(after, int | float):
        return math.isclose(before, after, rel_tol=1e-6)
    return bool(plain(before) == plain(after))


def _word(value: Any) -> str:
    return "unset" if value is None else f"{plain(value)}"


def _read_potcar(folder: Path) -> Potcar:
    from pymatgen.io.vasp.inputs import Potcar

    path = file_of(folder, "POTCAR")
    try:
        with warnings.catch_warnings(action="ignore"):  # the pre-flight check reports unknown ones
            potcar: Potcar = Potcar.from_file(str(path))
    except (OSError, LookupError, ValueError, AttributeError) as problem:
        raise VaspError(f"{path}, the potentials of the run, cannot be read: {problem}") from None
    return potcar
