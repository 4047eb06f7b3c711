"""Checkpoints of DeePMD-kit, packed into one file that can be stored."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ionloop.schemas.potential import StoredFile

MODEL, LEARNED = "model.json", "learned.txt"


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the prefix (TensorFlow) or the file (PyTorch) of the latest checkpoint, if any.

    TensorFlow names a checkpoint before it is complete; one that was interrupted before that is
    passed over.
    """
    index = folder / "checkpoint"
    if not index.exists():
        return None
    text = index.read_text()
    latest, *others = re.findall(r'"(.+?)"', text) or [text.strip()]
    paths = [folder / Path(name).name for name in (latest, *reversed(others))]
    complete = (p for p in paths if p.is_file() or p.with_name(f"{p.name}.meta").is_file())
    return next(complete, None)


@dataclass(frozen=True)
class Checkpoint:
    """An unpacked checkpoint.

    Parameters
    ----------
    model
        The `model` section that it belongs to.
    path
        What `--init-model` takes: a prefix (TensorFlow) or a file (PyTorch).
    learned
        Ids of the frames that it was trained on; none in archives that do not say.
    """

    model: dict[str, Any]
    path: Path
    learned: frozenset[str] = frozenset()

    @property
    def backend(self) -> str:
        """The backend that can read it."""
        return "pytorch" if self.path.suffix == ".pt" else "tensorflow"


def pack_checkpoint(model: dict[str, Any], folder: Path, learned: Iterable[str] = ()) -> StoredFile:
    """Pack the latest checkpoint of a folder; level 1 of gzip halves its size.

    Parameters
    ----------
    model
        Its `model` section.
    folder
        Folder of the training.
    learned
        Ids of the frames that it was trained on.
    """
    latest = latest_checkpoint(folder)
    assert latest is not None
    files = sorted({*folder.glob(f"{latest.name}.*"), *folder.glob(latest.name)})
    contents = {path.name: path.read_bytes() for path in files}
    contents["checkpoint"] = f'model_checkpoint_path: "{latest.name}"\n'.encode()
    contents[MODEL] = json.dumps(model).encode()
    contents[LEARNED] = "\n".join(learned).encode()
    return StoredFile("checkpoint.tar.gz", _archive(contents))


def _archive(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack_checkpoint(checkpoint: StoredFile, folder: Path) -> Checkpoint:
    """Unpack a checkpoint.

    Parameters
    ----------
    checkpoint
        What `pack_checkpoint` returned.
    folder
        Folder to write it to; what it held before is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(checkpoint.content)) as archive:
        # Pythons before 3.11.4, Debian 12's among them, have no filters and ignore this.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    start = latest_checkpoint(folder)
    assert start is not None
    learned = folder / LEARNED
    ids = learned.read_text().split() if learned.exists() else []
    return Checkpoint(json.loads((folder / MODEL).read_text()), start, frozenset(ids))
