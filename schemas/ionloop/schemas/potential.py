"""Trained models and ensembles of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from ionloop.schemas.document import ByReference, Document, Model
from ionloop.schemas.packed import Packed
from ionloop.schemas.table import Table
from ionloop.schemas.units import Seconds


@dataclass(frozen=True)
class StoredFile(Packed):
    """A file that travels through the store, such as a frozen model.

    Parameters
    ----------
    name
        File name with its suffix; codes tell formats by it.
    content
        The bytes.
    """

    name: str
    content: bytes

    header_fields: ClassVar[tuple[str, ...]] = ("name", "sha256", "size")

    @property
    def sha256(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.content)

    def pack(self) -> dict[str, Any]:
        """Return name and content as JSON values."""
        return {"name": self.name, "base64": base64.b64encode(self.content).decode("ascii")}

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Self:
        """Build the file from what `pack` returned."""
        return cls(packed["name"], base64.b64decode(packed["base64"]))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file."""
        return cls(path.name, path.read_bytes())

    def write(self, folder: Path, name: str | None = None) -> Path:
        """Write the file and return its path.

        Parameters
        ----------
        folder
            A folder that exists.
        name
            Name of the file; its own by default.
        """
        path = folder / (name or self.name)
        path.write_bytes(self.content)
        return path


DEEPMD = "deepmd"
"""Kind of the potentials that version 0.1 stored, which do not say theirs."""


class ForceErrors(Model):
    """Root-mean-square errors of a potential on labelled frames."""

    n_frames: int
    energy_mev_per_atom: float = Field(json_schema_extra={"unit": "meV/atom"})
    force_mev_per_angstrom: float = Field(json_schema_extra={"unit": "meV/Å"})
    virial_mev_per_atom: float | None = Field(None, json_schema_extra={"unit": "meV/atom"})
    force_rms_mev_per_angstrom: float = Field(json_schema_extra={"unit": "meV/Å"})
    """the reference forces' own RMS, for scale"""


class Base(Model):
    """A universal potential that a model was fine-tuned from."""

    name: str
    """name of a model that comes with its package, or of a local file"""
    sha256: str
    """hash of its weights"""


class Teacher(Model):
    """An ensemble whose predictions a student was trained on, and the labels behind it."""

    kind: str
    """kind of its potentials"""
    job: str | None = None
    """uuid of the job that wrote its `EnsembleDoc`"""
    models: list[str]
    """sha256 of its model files"""
    bases: list[Base] = Field([])
    """universal potentials that they were fine-tuned from"""
    level: str
    """hash of the level of theory of the labels that it was trained on; of mixed ones, joined by
    +"""
    labels: list[str]
    """ids of the frames with these labels, held-back ones included"""
    validation_errors: ForceErrors | None = None
    """errors of the ensemble mean on labels that were held back from it"""

    @property
    def description(self) -> str:
        """What it is and what it has learned, as a part of a sentence."""
        bases = ", ".join(base.name for base in self.bases)
        tuned = f" fine-tuned from {bases}" if bases else ""
        return f"{len(self.models)} {self.kind} models{tuned} on {len(self.labels)} labels"


class TrainingDoc(Document):
    """One trained model."""

    kind: str = DEEPMD
    """kind of the potential, which explorers ask for"""
    member: int | None = None
    """number of the model in its ensemble, from 0; unlike the seed it stays the same from turn to
    turn"""
    seed: int
    backend: str
    type_map: list[str]
    """chemical symbols in the order of the model's types"""
    steps: int
    warm_start: bool
    obstacle: str = ""
    """why it started from scratch, where it was to start from another model"""
    base: Base | None = None
    """universal potential that it was fine-tuned from; none: trained from scratch"""
    train_errors: ForceErrors
    validation_errors: ForceErrors | None = None
    learning_curve: Table
    seconds: Seconds
    cores: int = 1
    model: StoredFile
    """frozen model, for inference"""
    checkpoint: StoredFile | None
    """checkpoint, to start the next training from; none where it was pruned"""


class LostTraining(Model):
    """A training that failed beside others of the same job."""

    seed: int
    reason: str


class EnsembleDoc(Document):
    """The models of one training step that succeeded, and what became of the others."""

    kind: str = DEEPMD
    """kind of the potential, which explorers ask for"""
    n_asked: int
    members: list[ByReference]
    """TrainingDoc of every model, by reference"""
    numbers: list[int] = Field([])
    """member number of every model, from 0; none where a document of schema version 1 does not tell
    them"""
    seeds: list[int]
    failures: list[str] = Field([])
    """a sentence per lost training"""
    notes: list[str] = Field([])
    """such as which models had to start from scratch"""
    train_errors: list[ForceErrors] = Field([])
    validation_errors: list[ForceErrors] = Field([])
    core_seconds: Seconds = 0.0
    teacher: Teacher | None = None
    """ensemble that labelled most of what these models were trained on; none: they were trained on
    labels alone"""


class EvaluationDoc(Document):
    """An ensemble compared with labels.

    `deviation_against_error` has one row per label: frame_id, max_devi_f of the ensemble and
    max_force_error of its mean, both in eV/Å.
    """

    errors: ForceErrors | None = None
    """of the ensemble mean"""
    model_errors: list[ForceErrors] = Field([])
    """of each model, in their order"""
    deviation_against_error: Table
    energies: Table
    """reference and predicted energy per atom in eV"""
    rank_correlation: float | None = None
    """Spearman correlation of deviation and true error"""
