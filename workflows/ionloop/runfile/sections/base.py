"""What the sections of all codes share.

A section holds the settings of a code together with the fields of its Maker, and builds the
Maker. What the pre-flight check and the estimate of the cost know of a code is in
`ionloop.preflight.codes`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ionloop.codes.common.dft import DftSettings
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.jobs.label.dft import DftLabelMaker
from ionloop.jobs.roles import ExploreMaker, LabelMaker, TrainMaker
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import Kept, KPoints
from ionloop.selection.physical import PhysicalLimits

MOST_MODELS = 100
"""Most models of a training: a larger number is a mistake, and each model is a job."""


Fraction = Annotated[float, Field(ge=0, le=1)]

Allowance = Annotated[
    NonNegativeInt,
    Field(
        description="labels that a step may lose even if that is below the floor, as long as one "
        "is accepted"
    ),
]


class CodeSection(Model, ABC):
    """One code in its role: its settings and the fields of its Maker."""

    settings_type: ClassVar[type[Model]]
    maker_type: ClassVar[Any]

    code: str
    """name of the code, or import path of a section class"""

    def build(self, **given: Any) -> Any:
        """Return the Maker; `given` are fields of the Maker that the section does not hold."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "code"}
        settings = {name: values.pop(name) for name in self.settings_type.model_fields}
        return self.maker_type(settings=self.settings_type(**settings), **values, **given)

    def located(self, folder: Path) -> Self:
        """Return the section with paths relative to `folder` made absolute."""
        return self


class LabelSection(CodeSection):
    """A labeller."""

    relaxes: ClassVar[bool] = True
    runs_dynamics: ClassVar[bool] = True
    starts_a_program: ClassVar[bool] = False

    @property
    def sampling(self) -> KPoints | None:
        """The k-points; None where the labeller has none."""
        return None

    def of_starts(self, structures: Sequence[Frames]) -> Self:
        """Return the section for a run from these start structures, whose meshes may be kept."""
        if not isinstance(self.sampling, Kept):
            return self
        return self.model_copy(update={"kpoints": self.sampling.of_starts(structures)})

    def maker(self) -> LabelMaker:
        """Return the Maker."""
        maker: LabelMaker = self.build()
        return maker

    @property
    def doubtful_keys(self) -> list[str]:
        """Hashes under which version 0.1 kept labels that may, or may not, be of this level."""
        return []


class BatchLabelSection(LabelSection):
    """A labeller whose jobs label batches of frames."""

    batch_size: PositiveInt = BatchLabelMaker.batch_size
    """frames per job; every label is safe as soon as it is calculated"""
    floor: Fraction = BatchLabelMaker.floor
    """smallest accepted fraction of the labels with which a turn goes on"""
    allowance: Allowance = BatchLabelMaker.allowance
    quorum: Fraction = BatchLabelMaker.quorum
    """fraction of the labels with which a turn goes on while the others are still calculated; those
    join the next turn"""
    cores: PositiveInt = BatchLabelMaker.cores
    """cores of one job"""


class DftSection(BatchLabelSection, DftSettings):
    """A labeller that starts a DFT program per frame."""

    starts_a_program = True

    batch_size: PositiveInt = DftLabelMaker.batch_size
    """frames per job; every label is safe as soon as it is calculated"""
    cores: PositiveInt = DftLabelMaker.cores
    """MPI ranks of a calculation"""

    @property
    def sampling(self) -> KPoints:
        """The k-points."""
        return self.kpoints


class Production(Model, extra="allow"):
    """The training at the end; any key of `train` may be given here too and then replaces it."""

    code: str | None = None
    """name of the code that trains the potential, as in `train`; none: that of `train`"""
    steps: PositiveInt | None = None
    """training steps, also of a warm start; none: those of `train.steps`"""
    n_models: PositiveInt = Field(1, le=MOST_MODELS)
    """models, of which the first is the potential"""
    warm_start: bool = True
    """start from the last ensemble, or from the students of the last round where there is a
    teacher, not from scratch; another network or code than that one's starts from scratch in any
    case"""
    train_on_all: bool = False
    """train on the frames too that `train.validation_fraction` holds back; the potential then has
    no held-back error"""

    @model_validator(mode="after")
    def _check_held_back(self) -> Self:
        if self.train_on_all and "validation_fraction" in self.overrides:
            raise ValueError("train_on_all leaves no validation_fraction: give one of the two")
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """The keys of `train` that are given here."""
        return dict(self.model_extra or {})


class TrainSection(CodeSection):
    """A trainer."""

    n_models: int
    min_models: int
    validation_fraction: float

    def maker(self, type_map: Sequence[str]) -> TrainMaker:
        """Return the Maker for models of these chemical symbols, in the order of their types."""
        maker: TrainMaker = self.build(type_map=list(type_map))
        return maker

    def for_production(self, production: Production, **changes: Any) -> Self:
        """Return the section that trains the potential at the end.

        Parameters
        ----------
        production
            The section `production` of the run file.
        changes
            Further keys that the code changes for it.
        """
        changes |= {"n_models": production.n_models, "min_models": 1}
        if production.train_on_all:
            changes["validation_fraction"] = 0.0
        given = self.model_dump(exclude_unset=True)
        return self.model_validate(given | changes | production.overrides)

    def other_network(self, other: TrainSection) -> list[str]:
        """Return the keys in which two networks differ, so that none can start from the other."""
        return [] if type(other) is type(self) else ["code"]

    @property
    def start(self) -> str:
        """Where a training starts that continues no model, as a part of a sentence."""
        return "from scratch"

    @property
    def description(self) -> str:
        """What is trained, as a part of a sentence."""
        return f"{self.code} models"


class ExploreSection(CodeSection):
    """An explorer."""

    limits: PhysicalLimits

    def maker(self, type_map: Sequence[str]) -> ExploreMaker:
        """Return the Maker for models of these chemical symbols, in the order of their types."""
        maker: ExploreMaker = self.build(type_map=list(type_map))
        return maker
