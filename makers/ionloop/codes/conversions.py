"""Frames to and from ASE, pymatgen, dpdata and files.

Every in-memory round trip is exact to the last bit, atom order included: positions are neither
wrapped nor rotated. Text files keep as many digits as their format has; `Frames.snapped` frames
keep their positions, cells and ids through all of them.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import difflib
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ase import Atoms
    from dpdata import LabeledSystem, MultiSystems, System
    from pymatgen.core.structure import Structure

# dpdata turns the cell of a POSCAR; ASE leaves it as it is.
_ASE_ALIASES = {
    "poscar": "vasp",
    "contcar": "vasp",
    "vasp/poscar": "vasp",
    "vasp/contcar": "vasp",
}
_TELLS_CONVERGENCE = ("vasp/outcar", "outcar", "vasp/xml", "xml")
_POSITION_MATCH = 1e-8  # Å: far above round-off, far below any meant move
_VIRIAL_MATCH = 1e-6  # eV


class FrameFileError(IonloopError, ValueError):
    """A file cannot be read as frames, or frames cannot be written as asked."""


def to_ase(frames: Frames) -> list[Atoms]:
    """Convert to ASE, one `Atoms` per frame.

    Labels sit in a `SinglePointCalculator` (stress = -virial / volume, eV/Å³). The exact virial
    (eV), the level and the frame id are in ``info``, because a Voigt stress cannot give the
    virial back to the last bit.
    """
    return [_to_atoms(frames, index) for index in range(len(frames))]


def _to_atoms(frames: Frames, index: int) -> Atoms:
    from ase import Atoms

    atoms = Atoms(
        symbols=list(frames.symbols),
        positions=frames.positions[index],
        cell=frames.cells[index],
        pbc=True,
        info={"frame_id": frames.ids[index]},
    )
    if frames.level is not None:
        atoms.info["level"] = frames.level
    if frames.is_labelled:
        _attach_label(atoms, frames, index)
    return atoms


def _attach_label(atoms: Atoms, frames: Frames, index: int) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    assert frames.energies is not None and frames.forces is not None
    results: dict[str, Any] = {
        "energy": float(frames.energies[index]),
        "forces": frames.forces[index],
    }
    if frames.virials is not None:
        virial = frames.virials[index]
        results["stress"] = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
        atoms.info["virial"] = virial.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)


def from_ase(images: Iterable[Atoms]) -> list[Frames]:
    """Convert from ASE, one `Frames` per composition in the order of appearance.

    The energy is the free energy where there is one, since forces derive from it. Results of a
    calculator that belong to other positions are ignored, and so is an energy without forces.

    Raises
    ------
    ValueError
        If an image has no three lattice vectors, or only some images of a composition are
        labelled.
    """
    return concatenate(_from_atoms(atoms) for atoms in images)


def _from_atoms(atoms: Atoms) -> Frames:
    if atoms.cell.rank < 3:
        formula = atoms.get_chemical_formula()
        raise ValueError(f"{formula} has no three lattice vectors; give it a periodic cell")
    return Frames(
        symbols=_chemical(atoms.get_chemical_symbols()),
        positions=np.array([atoms.positions]),
        cells=np.array([atoms.cell.array]),
        **_ase_label(atoms),
    )


def _ase_label(atoms: Atoms) -> dict[str, Any]:
    calculator = atoms.calc
    if calculator is None or calculator.check_state(atoms):
        return {}
    results = calculator.results
    energy = results.get("free_energy", results.get("energy"))
    if energy is None or "forces" not in results:
        return {}
    virial = _ase_virial(atoms, results)
    return {
        "energies": np.array([energy]),
        "forces": np.array([results["forces"]]),
        "virials": None if virial is None else np.array([virial]),
        "level": atoms.info.get("level"),
    }


def _ase_virial(atoms: Atoms, results: Mapping[str, Any]) -> Array | None:
    stated = atoms.info.get("virial")
    if "stress" not in results:
        return None if stated is None else np.reshape(stated, (3, 3))
    virial: Array = -atoms.get_volume() * full_stress(results["stress"])
    # A virial that contradicts the stress was left behind by an earlier calculation.
    if stated is not None and np.allclose((stated + stated.T) / 2, virial, atol=_VIRIAL_MATCH):
        return np.asarray(stated)
    return virial


def full_stress(stress: Array) -> Array:
    """Return ASE's stress (six Voigt components or (3, 3)), eV/Å³, as (3, 3)."""
    from ase.stress import voigt_6_to_full_3x3_stress

    full: Array = (
        stress if np.shape(stress) == (3, 3) else voigt_6_to_full_3x3_stress(np.asarray(stress))
    )
    return full


def to_pymatgen(frames: Frames) -> list[Structure]:
    """Convert to pymatgen, one `Structure` per frame.

    pymatgen keeps fractional coordinates, so the exact Cartesian ones (Å) travel as the site
    property ``positions``; forces (eV/Å) are the site property ``forces``, and energy (eV),
    virial (eV) and level are in ``properties``.
    """
    return [_to_structure(frames, index) for index in range(len(frames))]


def _to_structure(frames: Frames, index: int) -> Structure:
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    sites = {"positions": frames.positions[index].tolist()}
    properties: dict[str, Any] = {} if frames.level is None else {"level": frames.level}
    if frames.energies is not None and frames.forces is not None:
        sites["forces"] = frames.forces[index].tolist()
        properties["energy"] = float(frames.energies[index])
    if frames.virials is not None:
        properties["virial"] = frames.virials[index].tolist()
    return Structure(
        Lattice(frames.cells[index]),
        frames.symbols,
        frames.positions[index],
        coords_are_cartesian=True,
        site_properties=sites,
        properties=properties,
    )


def from_pymatgen(structures: Iterable[Structure]) -> list[Frames]:
    """Convert from pymatgen, one `Frames` per composition in the order of appearance.

    Raises
    ------
    ValueError
        If a structure is disordered.
    """
    return concatenate(_from_structure(structure) for structure in structures)


def _from_structure(structure: Structure) -> Frames:
    if not structure.is_ordered:
        raise FrameFileError(_disorder_sentence(structure))
    return Frames(
        symbols=_chemical(site.specie.symbol for site in structure),
        positions=np.array([_exact_positions(structure)]),
        cells=np.array([structure.lattice.matrix]),
        **_pymatgen_label(structure),
    )


def _disorder_sentence(structure: Structure) -> str:
    partial = [site for site in structure if not site.is_ordered]
    examples = ", ".join(dict.fromkeys(site.species_string for site in partial[:20]))
    return (
        f"{len(partial)} of {len(structure)} sites are partly occupied ({examples}); choose an "
        "ordered configuration first, for example with pymatgen's "
        "OrderDisorderedStructureTransformation"
    )


def _exact_positions(structure: Structure) -> Array:
    # The property is trusted only while it says what the sites say: sites may have been moved.
    cartesian: Array = structure.cart_coords
    stated = structure.site_properties.get("positions")
    if stated is None or any(row is None for row in stated):
        return cartesian
    exact = np.array(stated, dtype=float)
    return exact if np.allclose(exact, cartesian, rtol=0, atol=_POSITION_MATCH) else cartesian


def _pymatgen_label(structure: Structure) -> dict[str, Any]:
    forces = structure.site_properties.get("forces")
    energy = structure.properties.get("energy")
    if forces is None or energy is None:
        return {}
    virial = structure.properties.get("virial")
    return {
        "energies": np.array([energy]),
        "forces": np.array([forces]),
        "virials": None if virial is None else np.array([virial]),
        "level": structure.properties.get("level"),
    }


def to_dpdata(frames: Frames) -> System | LabeledSystem:
    """Convert to a dpdata system, labelled if the frames are.

    Atoms keep their order and the cell its orientation. dpdata has no place for the level.
    """
    import dpdata

    names = list(dict.fromkeys(frames.symbols))
    types = np.array([names.index(symbol) for symbol in frames.symbols], dtype=int)
    data: dict[str, Any] = {
        "atom_names": names,
        "atom_numbs": [int(count) for count in np.bincount(types)],
        "atom_types": types,
        "orig": np.zeros(3),
        "cells": frames.cells.copy(),
        "coords": frames.positions.copy(),
    }
    for name in ("energies", "forces", "virials"):
        if getattr(frames, name) is not None:
            data[name] = getattr(frames, name).copy()
    return dpdata.LabeledSystem(data=data) if frames.is_labelled else dpdata.System(data=data)


def from_dpdata(system: System | LabeledSystem, level: str | None = None) -> Frames:
    """Convert from a dpdata system.

    Parameters
    ----------
    system
        The system, labelled or not.
    level
        Hash of the level of theory of its labels, which dpdata does not know.

    Raises
    ------
    ValueError
        If it is not periodic, if its atom names are no chemical symbols, or if it has energies
        without forces.
    """
    data = system.data
    with np.errstate(invalid="ignore"):
        flat = not np.all(np.linalg.det(data["cells"]))
    if data.get("nopbc", False) or flat:
        raise ValueError("the system has no periodic cell; give it one")
    return Frames(
        symbols=_chemical(str(data["atom_names"][kind]) for kind in data["atom_types"]),
        positions=np.array(data["coords"], dtype=float),
        cells=np.array(data["cells"], dtype=float),
        energies=data.get("energies"),
        forces=data.get("forces"),
        virials=data.get("virials"),
        level=level if "energies" in data else None,
    )


def _chemical(symbols: Iterable[str]) -> tuple[str, ...]:
    from ase.data import chemical_symbols

    checked = tuple(symbols)
    unknown = sorted(set(checked) - set(chemical_symbols[1:]))
    if unknown:
        raise FrameFileError(
            f"{', '.join(unknown)} are no chemical symbols; where only type numbers are stored, "
            "give type_map, the symbols in their order"
        )
    return checked


def to_multi_systems(parts: Iterable[Frames]) -> MultiSystems:
    """Convert several compositions to one `dpdata.MultiSystems`.

    Raises
    ------
    ValueError
        If two parts have one composition: dpdata would join them, sorting their atoms.
    """
    import dpdata

    parts = list(parts)
    systems = dpdata.MultiSystems(*[to_dpdata(part) for part in parts])
    if len(systems.systems) != len(parts):
        formulas = [part.formula for part in parts]
        raise ValueError(f"dpdata holds each composition once, got {formulas}; join them first")
    return systems


def from_multi_systems(systems: MultiSystems, level: str | None = None) -> list[Frames]:
    """Convert `dpdata.MultiSystems`, one `Frames` per composition."""
    return [from_dpdata(system, level) for system in systems.systems.values()]


def read_frames(
    path: Path,
    fmt: str | None = None,
    type_map: Sequence[str] | None = None,
    format_key: str = "",
) -> list[Frames]:
    """Read labelled or bare frames from any format of dpdata, ASE, or from a CIF.

    POSCAR, extxyz and every other format that ASE knows are read by ASE; CIF by pymatgen, which
    tells disorder; everything else by dpdata. (dpdata rotates the cell and the labels of some
    of its formats, such as vasp/outcar, to a lower triangular one.) Frames keep their order
    within a composition.

    Parameters
    ----------
    path
        File, or for DeePMD formats a folder; folders below it that hold systems are read too.
    fmt
        Format in the words of dpdata or ASE, such as deepmd/npy, vasp/outcar, extxyz or cif;
        worked out from the path when not given.
    type_map
        Chemical symbols in the order of the type numbers, for formats that hold only numbers.
    format_key
        Where the user names the format, for the cure; where nothing takes it, none is told.

    Returns
    -------
    list of Frames
        One per composition, in the order of appearance.

    Raises
    ------
    FrameFileError
        A ValueError that names the file, what is wrong with it, and the cure.
    """
    path = Path(path)
    _check_content(path)
    fmt = (fmt or guess_format(path, format_key)).lower()
    try:
        frames = concatenate(_finite(_read(path, fmt, list(type_map) if type_map else None)))
    except FrameFileError as error:
        raise FrameFileError(f"{path}: {error}") from error
    except Exception as error:
        raise FrameFileError(
            f"{path} cannot be read as {fmt}: {_words(error)}. Check the file, or "
            f"{_other_format(format_key)}"
        ) from error
    if not frames:
        raise FrameFileError(f"{path} holds no frames (read as {fmt}); check how it was written")
    return frames


def unconverged(path: Path, fmt: str | None = None) -> int | None:
    """Return how many frames `read_frames` leaves out because their SCF did not converge.

    Parameters
    ----------
    path
        A file or folder that can be read.
    fmt
        Its format, worked out from the path when not given.

    Returns
    -------
    int or None
        None where nothing of the format's word on convergence is read, if it has one: of all but
        VASP's.
    """
    import dpdata

    fmt = (fmt or guess_format(path)).lower()
    if fmt not in _TELLS_CONVERGENCE:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        n = [
            len(dpdata.LabeledSystem(str(path), fmt=fmt, convergence_check=check))
            for check in (True, False)
        ]
    return n[1] - n[0]


def _finite(parts: Iterable[Frames], place: str = "") -> Iterator[Frames]:
    """Pass frames on, counted in the order of the file; refuse the first that holds no number."""
    n_before = 0
    for part in parts:
        for name, what in _QUANTITIES.items():
            array = getattr(part, name)
            if array is not None and not np.isfinite(array).all():
                raise FrameFileError(place + _not_finite(part, array, what, n_before))
        n_before += len(part)
        yield part


_QUANTITIES = {
    "positions": "the position",
    "cells": "the cell",
    "forces": "the force",
    "energies": "the energy",
    "virials": "the virial",
}


def _not_finite(part: Frames, array: Array, what: str, n_before: int) -> str:
    frame, *inside = np.argwhere(~np.isfinite(array))[0].tolist()
    value = array[(frame, *inside)]
    per_atom = what in ("the position", "the force")
    atom = f", atom {inside[0] + 1} ({part.symbols[inside[0]]})" if per_atom else ""
    return (
        f"frame {n_before + frame + 1}{atom}: {what} holds {value}; remove the frame, or "
        "calculate it again"
    )


def _check_content(path: Path) -> None:
    if not path.exists():
        raise FrameFileError(f"{path} does not exist; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise FrameFileError(f"{path} is empty; put a structure or labelled frames into it")


def _words(error: Exception) -> str:
    return textwrap.shorten(str(error), 200).rstrip(".") or type(error).__name__


def _other_format(format_key: str) -> str:
    if format_key:
        return f"name its format ({format_key}), such as vasp/outcar or extxyz"
    return "write it in a usual format with its usual name, such as .cif, .vasp or .extxyz"


def guess_format(path: Path, format_key: str = "") -> str:
    """Work out the format of a file or folder from its name and content.

    Parameters
    ----------
    path
        The file or folder.
    format_key
        Where the user names the format, for the cure; where nothing takes it, none is told.

    Raises
    ------
    FrameFileError
        If it cannot be told.
    """
    from ase.io.formats import UnknownFileTypeError, filetype

    if path.is_dir():
        return _guess_folder_format(path, format_key)
    if "OUTCAR" in path.name:
        return "vasp/outcar"
    if path.name.startswith("vasprun"):
        return "vasp/xml"
    suffixes = {".h5": "deepmd/hdf5", ".hdf5": "deepmd/hdf5", ".vasp": "vasp", ".cif": "cif"}
    if path.suffix in suffixes:
        return suffixes[path.suffix]
    try:
        return str(filetype(str(path)))
    except UnknownFileTypeError as error:
        raise FrameFileError(
            f"the format of {path} cannot be told; {_other_format(format_key)}"
        ) from error


def _guess_folder_format(path: Path, format_key: str) -> str:
    if any(path.rglob("set.*/real_atom_types.npy")):
        return "deepmd/npy/mixed"
    if any(path.rglob("set.*/coord.npy")):
        return "deepmd/npy"
    if any(path.rglob("coord.raw")):
        return "deepmd/raw"
    raise FrameFileError(
        f"the folder {path} holds no DeePMD system (type.raw beside set.*/coord.npy); "
        f"name the file to read{f', or the format of the folder ({format_key})' * bool(format_key)}"
    )


def _read(path: Path, fmt: str, type_map: list[str] | None) -> Iterable[Frames]:
    from ase.io.formats import ioformats

    fmt = _ASE_ALIASES.get(fmt, fmt)
    if fmt == "cif":
        return _read_cif(path)
    if fmt in ioformats:
        return _read_ase(path, fmt)
    if fmt.endswith("/mixed"):
        return _read_mixed(path, fmt, type_map)
    if fmt == "deepmd/hdf5":
        return _read_hdf5(path, type_map)
    if fmt in ("deepmd", "deepmd/npy", "deepmd/comp", "deepmd/raw"):
        return _read_systems(path, fmt, type_map)
    _check_format(fmt)
    return [_read_dpdata(str(path), fmt, type_map)]


def _check_format(fmt: str) -> None:
    import dpdata.plugins  # noqa: F401  (registers the formats)
    from ase.io.formats import ioformats
    from dpdata.format import Format

    known = [*Format.get_formats(), *ioformats]
    if fmt not in known:
        near = difflib.get_close_matches(fmt, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "name one of theirs"
        raise FrameFileError(f"{fmt!r} is no format of dpdata or ASE; {hint}")


def _read_cif(path: Path) -> list[Frames]:
    from pymatgen.io.cif import CifParser

    return from_pymatgen(CifParser(path).parse_structures(primitive=False))


def _read_ase(path: Path, fmt: str) -> list[Frames]:
    import ase.io

    return from_ase(ase.io.read(path, index=":", format=fmt))


def _read_mixed(path: Path, fmt: str, type_map: list[str] | None) -> list[Frames]:
    import dpdata

    try:
        systems = dpdata.MultiSystems.from_file(str(path), fmt=fmt, type_map=type_map)
    except dpdata.data_type.DataError:
        systems = dpdata.MultiSystems.from_file(
            str(path), fmt=fmt, type_map=type_map, labeled=False
        )
    return from_multi_systems(systems)


def _read_systems(path: Path, fmt: str, type_map: list[str] | None) -> Iterator[Frames]:
    folders = sorted(found.parent for found in path.rglob("type.raw"))
    if not folders:
        raise FrameFileError("there is no type.raw in it; name the folder of a DeePMD system")
    for folder in folders:
        _check_type_map(folder, type_map)
        place = "" if folder == path else f"{folder.relative_to(path)}, "
        yield from _finite([_read_dpdata(str(folder), fmt, type_map)], place)


def _check_type_map(folder: Path, type_map: list[str] | None) -> None:
    if type_map is None or (folder / "type_map.raw").exists():
        return
    needed = 1 + max(map(int, (folder / "type.raw").read_text().split()))
    if needed > len(type_map):
        raise FrameFileError(
            f"{folder / 'type.raw'} has {needed} types, but type_map names only "
            f"{' '.join(type_map)}; name all of them"
        )


def _read_hdf5(path: Path, type_map: list[str] | None) -> list[Frames]:
    import h5py

    with h5py.File(path, "r") as file:
        groups: list[Any] = [file] if "type.raw" in file else []
        file.visititems(lambda _, item: groups.append(item) if _is_system(item) else None)
        return [_read_dpdata(group, "deepmd/hdf5", type_map) for group in groups]


def _is_system(item: Any) -> bool:
    return hasattr(item, "keys") and "type.raw" in item


def _read_dpdata(source: Any, fmt: str, type_map: list[str] | None) -> Frames:
    import dpdata

    kind = dpdata.LabeledSystem if _may_be_labelled(source, fmt) else dpdata.System
    with warnings.catch_warnings():  # `unconverged` counts them
        warnings.filterwarnings("ignore", "The following structures were unconverged")
        system = kind(source, fmt=fmt, type_map=type_map)
    if not len(system):
        told = " whose SCF converged" if fmt in _TELLS_CONVERGENCE else ""
        raise FrameFileError(f"it holds no frames{told}; calculate them again, or leave it out")
    return from_dpdata(system)


def _may_be_labelled(source: Any, fmt: str) -> bool:
    """Tell by the files of a DeePMD system, else by whether dpdata reads labels of the format."""
    from dpdata.format import Format
    from dpdata.system import load_format

    if fmt == "deepmd/hdf5":
        return all("energy.npy" in source[name] for name in source if name.startswith("set."))
    if fmt.startswith("deepmd"):
        return any(Path(source).glob("set.*/energy.npy")) or Path(source, "energy.raw").exists()
    return type(load_format(fmt)).from_labeled_system is not Format.from_labeled_system


def write_frames(frames: Frames | Sequence[Frames], path: Path, fmt: str) -> None:
    """Write frames to a file or folder.

    Parameters
    ----------
    frames
        Frames, of one or several compositions.
    path
        For deepmd/npy a folder that gets one system folder per composition; for poscar a folder
        that gets one file per frame, with the frame's id in its name and comment line; for
        deepmd/hdf5 (one group per composition) and extxyz a file.
    fmt
        deepmd/npy, deepmd/hdf5, extxyz or poscar. The first two are exact; extxyz holds
        positions and forces to 1e-8, poscar positions to 1e-16 and no labels.

    Raises
    ------
    FrameFileError
        If the format is unknown, if the labels come from several levels of theory, or if the
        folder is not empty.
    """
    parts = [frames] if isinstance(frames, Frames) else list(frames)
    writer = _WRITERS.get(fmt.lower())
    if writer is None:
        raise FrameFileError(f"{fmt!r} cannot be written; choose one of {', '.join(_WRITERS)}")
    levels = {part.level for part in parts if part.is_labelled}
    if len(levels) > 1:
        raise FrameFileError(
            f"{path}: labels of several levels of theory ({', '.join(map(str, levels))}) are "
            "never mixed in one data set; write them one by one"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer(parts, path)


def _write_npy(parts: list[Frames], path: Path) -> None:
    _make_folder(path)
    for name, part in zip(_system_names(parts), parts, strict=True):
        to_dpdata(part).to("deepmd/npy", str(path / name))


def _write_hdf5(parts: list[Frames], path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, part in zip(_system_names(parts), parts, strict=True):
            to_dpdata(part).to("deepmd/hdf5", file.create_group(name), comp_prec=np.float64)


def _write_extxyz(parts: list[Frames], path: Path) -> None:
    import ase.io

    images = [atoms for part in parts for atoms in to_ase(part)]
    ase.io.write(path, images, format="extxyz")


def _write_poscars(parts: list[Frames], path: Path) -> None:
    _make_folder(path)
    for part in parts:
        for frame_id, text in zip(part.ids, poscars(part), strict=True):
            (path / f"{part.formula}-{frame_id}.vasp").write_text(text)


def poscars(frames: Frames) -> list[str]:
    """Return the text of a POSCAR per frame, with formula and frame id as comment line."""
    import io

    from ase.io.vasp import write_vasp

    texts = []
    for atoms in to_ase(frames):
        buffer = io.StringIO()
        write_vasp(buffer, atoms)
        _, body = buffer.getvalue().split("\n", 1)
        texts.append(f"{frames.formula} {atoms.info['frame_id']}\n{body}")
    return texts


def _make_folder(path: Path) -> None:
    path.mkdir(exist_ok=True)
    if any(path.iterdir()):
        raise FrameFileError(f"the folder {path} is not empty; remove it or name another one")


def _system_names(parts: Iterable[Frames]) -> list[str]:
    # Two orders of the same atoms have one formula and stay two systems.
    names: list[str] = []
    for formula in (part.formula for part in parts):
        taken = sum(name.split("-")[0] == formula for name in names)
        names.append(f"{formula}-{taken}" if taken else formula)
    return names


_WRITERS: dict[str, Callable[[list[Frames], Path], None]] = {
    "deepmd/npy": _write_npy,
    "deepmd/hdf5": _write_hdf5,
    "extxyz": _write_extxyz,
    "poscar": _write_poscars,
}
