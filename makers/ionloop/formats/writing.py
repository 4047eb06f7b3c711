"""Frames into files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ionloop.formats.ase import to_ase
from ionloop.formats.dpdata import to_dpdata
from ionloop.formats.errors import FrameFileError
from ionloop.schemas.frames import Frames


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
    for name, part in _named(parts):
        to_dpdata(part).to("deepmd/npy", str(path / name))


def _write_hdf5(parts: list[Frames], path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, part in _named(parts):
            to_dpdata(part).to("deepmd/hdf5", file.create_group(name), comp_prec=np.float64)


def _write_extxyz(parts: list[Frames], path: Path) -> None:
    import ase.io

    images = [atoms for part in parts for atoms in to_ase(part)]
    ase.io.write(path, images, format="extxyz")


def _write_new_poscars(parts: list[Frames], path: Path) -> None:
    _make_folder(path)
    write_poscars(parts, path)


def write_poscars(parts: Iterable[Frames], folder: Path) -> None:
    """Write a POSCAR for every frame, named by formula and frame id.

    Parameters
    ----------
    parts
        The frames.
    folder
        Where to; it exists and may hold other files.
    """
    for part in parts:
        for frame_id, text in zip(part.ids, poscars(part), strict=True):
            (folder / f"{part.formula}-{frame_id}.vasp").write_text(text)


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


def _named(parts: Iterable[Frames]) -> Iterator[tuple[str, Frames]]:
    # Two orders of the same atoms have one formula and stay two systems.
    taken: Counter[str] = Counter()
    for part in parts:
        number = taken[part.formula]
        taken[part.formula] += 1
        yield f"{part.formula}-{number}" if number else part.formula, part


_WRITERS: dict[str, Callable[[list[Frames], Path], None]] = {
    "deepmd/npy": _write_npy,
    "deepmd/hdf5": _write_hdf5,
    "extxyz": _write_extxyz,
    "poscar": _write_new_poscars,
}
