"""Frames from files of any format that ASE or dpdata reads."""

# mypy: allow-untyped-calls
from __future__ import annotations

import difflib
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ionloop.formats.ase import ASE_ALIASES, from_ase
from ionloop.formats.dpdata import from_dpdata
from ionloop.formats.errors import FrameFileError
from ionloop.formats.pymatgen import from_pymatgen
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array

_STATES_CONVERGENCE = ("vasp/outcar", "outcar", "vasp/xml", "xml")


def read_frames(
    path: Path,
    fmt: str | None = None,
    type_map: Sequence[str] | None = None,
    format_key: str = "",
) -> list[Frames]:
    """Read labelled or bare frames from any format of dpdata, ASE, or from a CIF.

    ASE reads POSCAR, extxyz and every other format that it knows; pymatgen reads CIF, because it
    reports disorder; dpdata reads everything else. (dpdata rotates cell and labels of some of its
    formats, such as vasp/outcar, so that the cell is lower triangular.) Frames keep their order
    within a composition.

    Parameters
    ----------
    path
        File, or for DeePMD formats a folder; folders below it that hold systems are read too.
    fmt
        Format as dpdata or ASE name it, such as deepmd/npy, vasp/outcar, extxyz or cif; worked
        out from the path when not given.
    type_map
        Chemical symbols in the order of the type numbers, for formats that hold only numbers.
    format_key
        Key or option with which the user can name the format; the error message suggests it.

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
    if not path.exists():
        raise FrameFileError(f"{path} does not exist; check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise FrameFileError(f"{path} is empty; put a structure or labelled frames into it")
    fmt = (fmt or guess_format(path, format_key)).lower()
    try:
        frames = concatenate(_finite(_read(path, fmt, list(type_map) if type_map else None)))
    except FrameFileError as error:
        raise FrameFileError(f"{path}: {error}") from error
    except Exception as error:
        cause = textwrap.shorten(str(error), 200).rstrip(".") or type(error).__name__
        raise FrameFileError(
            f"{path} cannot be read as {fmt}: {cause}. Check the file, or "
            f"{_other_format(format_key)}"
        ) from error
    if not frames:
        raise FrameFileError(f"{path} holds no frames (read as {fmt}); check how it was written")
    return frames


def load_structures(paths: Iterable[Path]) -> list[Frames]:
    """Read start structures, without labels, one `Frames` per composition.

    Raises
    ------
    FrameFileError
        If a file cannot be read; the message names the file, what is wrong and the cure.
    """
    return concatenate(frames.unlabelled() for path in paths for frames in read_frames(path))


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
        None for formats whose convergence is not read: all except VASP's.
    """
    import dpdata

    fmt = (fmt or guess_format(path)).lower()
    if fmt not in _STATES_CONVERGENCE:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        n = [
            len(dpdata.LabeledSystem(str(path), fmt=fmt, convergence_check=check))
            for check in (True, False)
        ]
    return n[1] - n[0]


def _finite(parts: Iterable[Frames], place: str = "") -> Iterator[Frames]:
    """Pass the frames on; refuse the first that holds NaN or infinity, by its number in a file."""
    n_before = 0
    for part in parts:
        for name in ("positions", "cells", "forces", "energies", "virials"):
            array = getattr(part, name)
            if array is not None and not np.isfinite(array).all():
                raise FrameFileError(place + _not_finite(part, name, n_before))
        n_before += len(part)
        yield part


def _not_finite(part: Frames, name: str, n_before: int) -> str:
    array: Array = getattr(part, name)
    frame, *inside = np.argwhere(~np.isfinite(array))[0].tolist()
    value = array[(frame, *inside)]
    per_atom = name in ("positions", "forces")
    atom = f", atom {inside[0] + 1} ({part.symbols[inside[0]]})" if per_atom else ""
    quantity = "energy" if name == "energies" else name.removesuffix("s")
    return (
        f"frame {n_before + frame + 1}{atom}: the {quantity} holds {value}; remove the frame, or "
        "calculate it again"
    )


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
        Key or option with which the user can name the format; the error message suggests it.

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
    import ase.io
    from ase.io.formats import ioformats

    fmt = ASE_ALIASES.get(fmt, fmt)
    if fmt == "cif":
        from pymatgen.io.cif import CifParser

        return from_pymatgen(CifParser(path).parse_structures(primitive=False))
    if fmt in ioformats:
        return from_ase(ase.io.read(path, index=":", format=fmt))
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


def _read_mixed(path: Path, fmt: str, type_map: list[str] | None) -> list[Frames]:
    import dpdata

    read = partial(dpdata.MultiSystems.from_file, str(path), fmt=fmt, type_map=type_map)
    try:
        systems = read()
    except dpdata.data_type.DataError:
        systems = read(labeled=False)
    return [from_dpdata(system) for system in systems.systems.values()]


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
        groups: list[Any] = [file]
        file.visititems(lambda _, item: groups.append(item))
        systems = [group for group in groups if hasattr(group, "keys") and "type.raw" in group]
        return [_read_dpdata(system, "deepmd/hdf5", type_map) for system in systems]


def _read_dpdata(source: Any, fmt: str, type_map: list[str] | None) -> Frames:
    import dpdata

    kind = dpdata.LabeledSystem if _may_be_labelled(source, fmt) else dpdata.System
    with warnings.catch_warnings():  # `unconverged` counts them
        warnings.filterwarnings("ignore", "The following structures were unconverged")
        system = kind(source, fmt=fmt, type_map=type_map)
    if not len(system):
        told = " whose SCF converged" if fmt in _STATES_CONVERGENCE else ""
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
