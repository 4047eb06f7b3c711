"""The run file: one YAML that says what to learn, how, and where to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from jobflow import Flow
from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from ionloop.engines.resources import EngineName, ManagerConfig, ResourceTable
from ionloop.flows.concurrent_learning.decision import Convergence, Limits
from ionloop.flows.concurrent_learning.maker import ConcurrentLearningMaker
from ionloop.flows.concurrent_learning.settings import STAGES, TRUST, ExistingData, InitialData
from ionloop.flows.concurrent_learning.validation import Validation
from ionloop.flows.distillation.maker import DistilMaker
from ionloop.flows.distillation.settings import Distillation
from ionloop.formats.reading import load_structures, read_frames
from ionloop.jobs.roles import TrainMaker
from ionloop.jobs.select import WindowSelectMaker
from ionloop.runfile.errors import KeyPath, all_refused, refused
from ionloop.runfile.sections.base import ExploreSection, TrainSection
from ionloop.runfile.sections.deepmd import DeepmdSection
from ionloop.runfile.sections.forcefield import ForceFieldSection
from ionloop.runfile.sections.lammps import LammpsSection
from ionloop.runfile.sections.production import ProductionSection
from ionloop.runfile.sections.registry import AnyExploreSection, AnyLabelSection, AnyTrainSection
from ionloop.schemas.document import Model
from ionloop.schemas.environment import absolute
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.pattern import matching
from ionloop.schemas.selection import TrustWindow
from ionloop.selection.pick import SelectSettings
from ionloop.stores.connect import store_file

LARGEST_SEED = 2**53
"""The largest integer that every reader of JSON keeps exactly."""

LARGEST_NUMBER = 2**63 - 1
"""The largest integer that a store keeps, and larger than any quantity of a run."""

_NAME = matching(
    r"[A-Za-z0-9][\w.-]*",
    "letters, digits, '.', '_' and '-', the first a letter or a digit",
)


class RunFile(Model):
    """Everything that decides a run."""

    name: Annotated[str, Field(max_length=200), _NAME] = "run"
    """name of the run; a second run of that name becomes name-2"""
    structures: list[Path] = Field(min_length=1)
    """start structures, in any format that ASE, pymatgen or dpdata reads"""
    type_map: list[str] | None = None
    """chemical symbols in the order of the models' types; none: in the order of appearance in
    structures and data"""
    store: str = "ionloop.db"
    """where all results go: a file, or mongodb://host:port/database"""
    scratch: Path | None = None
    """folder for the work of the jobs; none: 'scratch' beside the store's file, or in the current
    folder"""
    keep: Literal["failed", "all"] = "failed"
    """jobs whose folder stays in scratch when they end"""
    cores: PositiveInt | None = None
    """cores of this machine that the run may use; none: all"""
    runner: EngineName = "local"
    """who runs it: this machine, FireWorks, or jobflow-remote (`remote`)"""
    launchpad: Path | None = None
    """FireWorks: LaunchPad file; none: FireWorks' own configuration"""
    project: str | None = None
    """jobflow-remote: project; none: its own default project"""
    resources: ResourceTable = ResourceTable()
    """what the jobs of each role ask of a queue"""
    seed: int = Field(1, ge=0, le=LARGEST_SEED)
    """seed from which all others follow"""
    initial: InitialData = InitialData()
    """the first training set"""
    label: AnyLabelSection = ForceFieldSection()
    """the labeller"""
    train: AnyTrainSection = DeepmdSection()
    """the ensemble of every turn"""
    explore: AnyExploreSection = LammpsSection()
    """the exploration"""
    select: SelectSettings = SelectSettings()
    """the pick of every turn"""
    trust: TrustWindow = TRUST
    """trust levels of the model deviation, where a stage has none of its own"""
    stages: list[Stage] = Field(list(STAGES), min_length=1)
    """stages of the exploration, in order"""
    convergence: Convergence = Convergence()
    """when a stage is converged"""
    limits: Limits = Limits()
    """where the loop stops in any case"""
    production: ProductionSection = ProductionSection()
    """the training at the end"""
    validation: Validation = Validation()
    """frames that judge the potential"""

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, data: Any) -> Any:
        if unusable := list(unusable_numbers(data)):
            raise all_refused(unusable)
        return data

    @field_validator("train")
    @classmethod
    def _check_models(cls, train: TrainSection) -> TrainSection:
        if not 2 <= train.min_models <= train.n_models:
            raise ValueError(
                f"min_models ({train.min_models}) must be 2 or more, since a deviation is "
                f"between models, and not above n_models ({train.n_models})"
            )
        return train

    @field_validator("production")
    @classmethod
    def _check_production(
        cls, production: ProductionSection, info: ValidationInfo
    ) -> ProductionSection:
        if train := info.data.get("train"):
            production.check(train)
        return production

    @field_validator("stages")
    @classmethod
    def _check_pressures(cls, stages: list[Stage]) -> list[Stage]:
        for number, stage in enumerate(stages):
            if idle := stage.idle_pressures:
                raise refused((number, "pressures"), idle, stage.pressures)
        return stages

    @field_validator("validation")
    @classmethod
    def _check_validation(cls, validation: Validation, info: ValidationInfo) -> Validation:
        stages = info.data.get("stages")
        if stages and (idle := validation.idle_pressures(stages[-1])):
            raise refused(("pressures",), idle, validation.pressures)
        return validation

    @model_validator(mode="after")
    def _check_labeller(self) -> Self:
        labeller = f"the labeller ({self.label.code})"
        if self.initial.relax and not self.label.relaxes:
            message = f"{labeller} does not relax; relax the start structures before the run"
            raise refused(("initial", "relax"), message, self.initial)
        if self.initial.aimd and not self.label.runs_dynamics:
            message = (
                f"{labeller} runs no molecular dynamics; leave it out, and name the labels of a "
                "run that was made elsewhere in initial.data"
            )
            raise refused(("initial", "aimd"), message, self.initial)
        return self

    @property
    def store_file(self) -> Path | None:
        """The file of an embedded store; None for a server."""
        return store_file(self.store)

    @property
    def scratch_folder(self) -> Path:
        """The folder for the work of the jobs."""
        if self.scratch is not None:
            return self.scratch
        folder = self.store_file.parent if self.store_file else Path.cwd()
        return folder / "scratch"

    def located(self, folder: Path) -> Self:
        """Return the run file with paths relative to `folder` made absolute."""
        store = self.store if "://" in self.store else str(absolute(Path(self.store), folder))
        data = [
            each.model_copy(update={"path": str(absolute(Path(each.path), folder))})
            for each in self.initial.data
        ]
        changes: dict[str, Any] = {
            "structures": [absolute(path, folder) for path in self.structures],
            "store": store,
            "initial": self.initial.model_copy(update={"data": data}),
            "label": self.label.located(folder.absolute()),
            "train": self.train.located(folder.absolute()),
            "production": self.production.located(self.train, folder.absolute()),
        }
        for key in ("scratch", "launchpad"):
            if (path := getattr(self, key)) is not None:
                changes[key] = absolute(path, folder)
        return self.model_copy(update=changes)

    def with_store(self, store: str) -> Self:
        """Return the run file with another store, a file's path relative to the current folder.

        Scratch follows the store unless the run file names a place for it.
        """
        return self.model_copy(update={"store": store}).located(Path())

    @property
    def validation_stage(self) -> Stage:
        """The validation MD as a stage of exploration."""
        return self.validation.stage(self.stages[-1])

    @property
    def placement(self) -> dict[str, ManagerConfig]:
        """Where the engine is to run the jobs, by role; as many processes as the role has cores."""
        return self.resources.placement(self.runner, self.cores_by_part)

    @property
    def cores_by_part(self) -> dict[str, int]:
        """The cores of a job of each part that a code does; 1 where its section does not say."""
        parts = {"label": self.label, "train": self.train, "explore": self.explore}
        parts["production"] = self.production_section
        return {part: int(getattr(section, "cores", 1)) for part, section in parts.items()}

    def read_structures(self) -> list[Frames]:
        """Read the start structures, one `Frames` per composition.

        Raises
        ------
        FrameFileError
            If a file cannot be read; the message names it, what is wrong, and what to do.
        """
        return load_structures(self.structures)

    def types(self, structures: Sequence[Frames] | None = None) -> list[str]:
        """Return the type map; read the data, and the structures if not given, where it is none.

        Parameters
        ----------
        structures
            The start structures, if they have been read.

        Raises
        ------
        FrameFileError
            If a file cannot be read.
        """
        if self.type_map is not None:
            return self.type_map
        starts = self.read_structures() if structures is None else structures
        return symbols_of([*starts, *(f for each in self.initial.data for f in read(each))])

    @property
    def production_section(self) -> TrainSection:
        """The section of the code that trains the potential at the end."""
        return self.production.section(self.train)

    @property
    def student_explorer(self) -> ExploreSection:
        """The section of the exploration with students, where there is a teacher."""
        return self.production.explorer(self.train, self.explore)

    @property
    def other_production(self) -> list[str]:
        """Keys in which the network of the production is another than that of the ensemble."""
        return self.train.other_network(self.production_section)

    def maker(self, structures: Sequence[Frames] | None = None) -> ConcurrentLearningMaker:
        """Return the Maker of the whole loop.

        Parameters
        ----------
        structures
            The start structures, if they have been read.
        """
        starts = self.read_structures() if structures is None else structures
        types = self.types(starts)
        return ConcurrentLearningMaker(
            label=self.label.of_starts(starts).maker(),
            train=self._trains(self.train, types),
            explore=self.explore.maker(types),
            select=WindowSelectMaker(settings=self.select, limits=self.explore.limits),
            production=self._trains(self.production_section, types),
            stages=self.stages,
            trust=self.trust,
            initial=self.initial,
            convergence=self.convergence,
            limits=self.limits,
            validation=self.validation,
            warm_production=self.production.warm_start and not self._begins_anew,
            distil=self._distil(types),
            seed=self.seed,
            name=self.name,
        )

    @property
    def _begins_anew(self) -> bool:
        """Whether the production is of another code, without students that it could start from."""
        code = self.production.code
        return self.production.teacher is None and code not in (None, self.train.code)

    def _distil(self, types: list[str]) -> DistilMaker | None:
        teacher = self.production.teacher
        if teacher is None:
            return None
        students = {"n_models": teacher.n_models, "min_models": 2}
        section = self.production_section.model_copy(update=students)
        settings = {name: getattr(teacher, name) for name in Distillation.model_fields}
        return DistilMaker(
            train=self._trains(section, types),
            explore=self.student_explorer.maker(types),
            settings=Distillation(**settings),
            device=getattr(self.train, "device", "cpu"),
            cores=getattr(self.train, "cores", 1),
        )

    def _trains(self, section: TrainSection, types: list[str]) -> TrainMaker:
        return replace(section.maker(types), allow_mixed=self.initial.allow_mixed)

    def flow(self) -> Flow:
        """Build the flow: structures are read here, everything else when it runs."""
        structures = self.read_structures()
        return self.maker(structures).make(structures)


def read(data: ExistingData) -> list[Frames]:
    """Read existing data, one `Frames` per composition.

    Raises
    ------
    FrameFileError
        If they cannot be read.
    """
    return read_frames(Path(data.path), data.format, data.type_map, "initial.data[].format")


def unusable_numbers(data: Any, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, str, float]]:
    """Yield numbers that nothing can be calculated with: key path, what is expected, number.

    Parameters
    ----------
    data
        Plain values: mappings, sequences, numbers, words.
    keys
        Key path of `data` itself.
    """
    if isinstance(data, Mapping | list | tuple):
        for key, value in data.items() if isinstance(data, Mapping) else enumerate(data):
            yield from unusable_numbers(value, (*keys, key))
    elif isinstance(data, float) and not isfinite(data):
        yield keys, "expected a finite number", data
    elif isinstance(data, int) and abs(data) > LARGEST_NUMBER:
        yield keys, "expected a smaller number", data
