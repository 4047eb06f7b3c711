"""The run file: one YAML that says what to learn, how, and where to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from jobflow import Flow
from pydantic import (
    BaseModel,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from ionloop.codes.conversions import read_frames
from ionloop.codes.structures import load_structures
from ionloop.config.codes import (
    CODES,
    AnyExploreSection,
    AnyLabelSection,
    AnyTrainSection,
    DeepmdSection,
    ForceFieldSection,
    LammpsSection,
    Production,
    TrainSection,
    section_type,
)
from ionloop.config.errors import KeyPath, RunFileError, Source, dotted, explain
from ionloop.makers.base import TrainMaker
from ionloop.makers.select import SelectSettings, WindowSelectMaker
from ionloop.runners.resources import EngineName, ManagerConfig, ResourceTable
from ionloop.schemas.document import Model
from ionloop.schemas.environment import absolute
from ionloop.schemas.errors import InputError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames, symbols_of
from ionloop.schemas.pattern import matching
from ionloop.schemas.selection import TrustWindow
from ionloop.stores.connect import store_file
from ionloop.workflows.concurrent_learning import (
    STAGES,
    TRUST,
    ConcurrentLearningMaker,
    ExistingData,
    InitialData,
    Validation,
)
from ionloop.workflows.decision import Convergence, Limits

LARGEST_SEED = 2**53
"""Up to here JSON keeps integers exactly, whoever reads it."""

LARGEST_NUMBER = 2**63 - 1
"""The largest integer that a store keeps, and larger than any quantity of a run."""


_NAME = matching(
    r"[A-Za-z0-9][\w.-]*",
    "letters, digits, '.', '_' and '-', the first a letter or a digit",
)


class RunFile(Model):
    """Everything that decides a run."""

    name: Annotated[str, Field(max_length=200), _NAME] = Field(
        "run", description="name of the run; a second run of that name becomes name-2"
    )
    structures: list[Path] = Field(
        min_length=1,
        description="start structures, in any format that ASE, pymatgen or dpdata reads",
    )
    type_map: list[str] | None = Field(
        None,
        description="chemical symbols in the order of the models' types; none: in the order of "
        "appearance in structures and data",
    )
    store: str = Field(
        "ionloop.db",
        description="where all results go: a file, or mongodb://host:port/database",
    )
    scratch: Path | None = Field(
        None,
        description="folder for the work of the jobs; none: 'scratch' beside the store's file, or "
        "in the current folder",
    )
    keep: Literal["failed", "all"] = Field(
        "failed", description="jobs whose folder stays in scratch when they end"
    )
    cores: PositiveInt | None = Field(
        None, description="cores of this machine that the run may use; none: all"
    )
    runner: EngineName = Field(
        "local", description="who runs it: this machine, FireWorks, or jobflow-remote (`remote`)"
    )
    launchpad: Path | None = Field(
        None, description="FireWorks: LaunchPad file; none: FireWorks' own configuration"
    )
    project: str | None = Field(
        None, description="jobflow-remote: project; none: its own default project"
    )
    resources: ResourceTable = Field(
        ResourceTable(), description="what the jobs of each role ask of a queue"
    )
    seed: int = Field(1, ge=0, le=LARGEST_SEED, description="seed from which all others follow")
    initial: InitialData = Field(InitialData(), description="the first training set")
    label: AnyLabelSection = Field(ForceFieldSection(), description="the labeller")
    train: AnyTrainSection = Field(DeepmdSection(), description="the ensemble of every turn")
    explore: AnyExploreSection = Field(LammpsSection(), description="the exploration")
    select: SelectSettings = Field(SelectSettings(), description="the pick of every turn")
    trust: TrustWindow = Field(
        TRUST,
        description="trust levels of the model deviation, where a stage has none of its own",
    )
    stages: list[Stage] = Field(
        list(STAGES),
        min_length=1,
        description="stages of the exploration, in order",
    )
    convergence: Convergence = Field(Convergence(), description="when a stage is converged")
    limits: Limits = Field(Limits(), description="where the loop stops all the same")
    production: Production = Field(Production(), description="the training at the end")
    validation: Validation = Field(Validation(), description="frames that judge the potential")

    @model_validator(mode="before")
    @classmethod
    def _check_numbers(cls, data: Any) -> Any:
        problems = [_refused_number(keys, value) for keys, value in unusable_numbers(data)]
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return data

    @field_validator("train")
    @classmethod
    def _check_models(cls, train: TrainSection) -> TrainSection:
        if not 2 <= train.min_models <= train.n_models:
            raise ValueError(
                f"min_models ({train.min_models}) must be 2 or more, for a deviation is between "
                f"models, and not above n_models ({train.n_models})"
            )
        return train

    @field_validator("production")
    @classmethod
    def _check_production(cls, production: Production, info: ValidationInfo) -> Production:
        if train := info.data.get("train"):
            train.for_production(production)
        return production

    @field_validator("stages")
    @classmethod
    def _check_pressures(cls, stages: list[Stage]) -> list[Stage]:
        for number, stage in enumerate(stages):
            if idle := stage.idle_pressures:
                raise _refused((number, "pressures"), idle, stage.pressures)
        return stages

    @field_validator("validation")
    @classmethod
    def _check_validation(cls, validation: Validation, info: ValidationInfo) -> Validation:
        stages = info.data.get("stages")
        if stages and (idle := validation.idle_pressures(stages[-1])):
            raise _refused(("pressures",), idle, validation.pressures)
        return validation

    @model_validator(mode="after")
    def _check_labeller(self) -> Self:
        initial, label = self.initial, self.label
        if initial.relax and not label.relaxes:
            sentence = "does not relax; relax the start structures before the run"
            raise self._refused_labeller("relax", sentence)
        if initial.aimd and not label.runs_dynamics:
            sentence = (
                "runs no molecular dynamics; leave it out, and name the labels of a run that was "
                "made elsewhere in initial.data"
            )
            raise self._refused_labeller("aimd", sentence)
        return self

    def _refused_labeller(self, key: str, sentence: str) -> ValidationError:
        message = f"the labeller ({self.label.code}) {sentence}"
        return _refused(("initial", key), message, self.initial)

    @property
    def store_file(self) -> Path | None:
        """The file of an embedded store; None for a server."""
        return store_file(self.store)

    @property
    def scratch_folder(self) -> Path:
        """The folder for the work of the jobs."""
        if self.scratch is not None:
            return self.scratch
        beside = self.store_file.parent if self.store_file else Path.cwd()
        return beside / "scratch"

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
        roles = {"label": self.label, "train": self.train, "explore": self.explore}
        cores = {role: int(getattr(section, "cores", 1)) for role, section in roles.items()}
        return self.resources.placement(self.runner, cores)

    def read_structures(self) -> list[Frames]:
        """Read the start structures, one `Frames` per composition.

        Raises
        ------
        FrameFileError
            If a file cannot be read; the sentence names it, what is wrong, and the cure.
        """
        return load_structures(self.structures)

    def types(self) -> list[str]:
        """Return the type map; read structures and data if it is not given.

        Raises
        ------
        FrameFileError
            If a file cannot be read.
        """
        if self.type_map is not None:
            return self.type_map
        frames = [*self.read_structures(), *(f for each in self.initial.data for f in read(each))]
        return symbols_of(frames)

    @property
    def other_production(self) -> list[str]:
        """Keys in which the network of the production is another than that of the ensemble."""
        return self.train.other_network(self.train.for_production(self.production))

    def maker(self) -> ConcurrentLearningMaker:
        """Return the Maker of the whole loop."""
        types = self.types()
        return ConcurrentLearningMaker(
            label=self.label.of_starts(self.read_structures()).maker(),
            train=self._trains(self.train, types),
            explore=self.explore.maker(types),
            select=WindowSelectMaker(settings=self.select, limits=self.explore.limits),
            production=self._trains(self.train.for_production(self.production), types),
            stages=self.stages,
            trust=self.trust,
            initial=self.initial,
            convergence=self.convergence,
            limits=self.limits,
            validation=self.validation,
            warm_production=self.production.warm_start,
            seed=self.seed,
            name=self.name,
        )

    def _trains(self, section: TrainSection, types: list[str]) -> TrainMaker:
        return replace(section.maker(types), allow_mixed=self.initial.allow_mixed)

    def flow(self) -> Flow:
        """Build the flow: structures are read here, everything else when it runs."""
        return self.maker().make(self.read_structures())


def _refused(place: KeyPath, message: str, value: Any) -> ValidationError:
    """Return the error of a value that is refused by itself or beside others."""
    return ValidationError.from_exception_data("run file", [_refusal(place, message, value)])


def _refusal(place: KeyPath, message: str, value: Any) -> InitErrorDetails:
    problem = PydanticCustomError("refused", "{message}", {"message": message})
    return InitErrorDetails(type=problem, loc=place, input=value)


def load(path: Path | str) -> RunFile:
    """Read a run file; paths in it are relative to it.

    Parameters
    ----------
    path
        A YAML file.

    Raises
    ------
    RunFileError
        If it is not there, is not YAML, or holds unknown keys or wrong values. The message has
        a line for each, with file, line, key, and what is expected.
    """
    path = Path(path)
    run_file = validate(_read(path))
    try:
        return run_file.located(path.parent)
    except InputError as error:
        raise RunFileError(f"{path}: {error}") from None


def validate(source: Source) -> RunFile:
    """Build the run file from its data.

    Raises
    ------
    RunFileError
        If it holds unknown keys or wrong values.
    """
    try:
        return RunFile.model_validate(source.data)
    except ValidationError as error:
        raise explain(error, source, allowed_keys) from None


def read(data: ExistingData) -> list[Frames]:
    """Read existing data, one `Frames` per composition.

    Raises
    ------
    FrameFileError
        If they cannot be read.
    """
    return read_frames(Path(data.path), data.format, data.type_map, "initial.data[].format")


def allowed_keys(keys: KeyPath, data: Any) -> list[str]:
    """Return the known keys of a section of the run file.

    Parameters
    ----------
    keys
        Key path of the section, empty for the whole file.
    data
        The content of the run file: its `code` keys decide what a section may hold.
    """
    model: type[BaseModel] = RunFile
    node = data
    for key in keys:
        node = node[key]
        if isinstance(key, str):
            coded = model is RunFile and key in CODES
            model = section_type(key, node) if coded else _model_at(model, key)
    known = list(model.model_fields)
    if model is Production:
        known += section_type("train", data.get("train")).model_fields
    return [key for key in dict.fromkeys(known) if (model, key) != (Production, "code")]


def model_in(annotation: Any) -> type[BaseModel]:
    """Return the model that an annotation such as ``list[Stage]`` or ``Stage | None`` holds.

    Raises
    ------
    LookupError
        If there is none.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        try:
            return model_in(part)
        except LookupError:
            continue
    raise LookupError(f"{annotation} holds no model")


def _model_at(model: type[BaseModel], key: str) -> type[BaseModel]:
    return model_in(model.model_fields[key].annotation)


def unusable_numbers(data: Any, keys: KeyPath = ()) -> Iterator[tuple[KeyPath, float]]:
    """Yield numbers that nothing can be calculated with, each with its key path.

    Parameters
    ----------
    data
        Plain values: mappings, sequences, numbers, words.
    keys
        Key path of `data` itself.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from unusable_numbers(value, (*keys, key))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from unusable_numbers(value, (*keys, index))
    elif (isinstance(data, float) and not isfinite(data)) or (
        isinstance(data, int) and abs(data) > LARGEST_NUMBER
    ):
        yield keys, data


def _refused_number(keys: KeyPath, value: float) -> InitErrorDetails:
    kind = "smaller" if isinstance(value, int) else "finite"
    return _refusal(keys, f"expected a {kind} number", value)


def _read(path: Path) -> Source:
    try:
        text = path.read_text()
        data = YAML(typ="safe", pure=True).load(text)
        marks = YAML().load(text)
    except FileNotFoundError:
        raise RunFileError(f"{path} does not exist; `ionloop init` writes an example") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} cannot be read: {error}") from None
    except MarkedYAMLError as error:
        raise RunFileError(_yaml_sentence(path, error)) from None
    if not isinstance(data, dict):
        raise RunFileError(f"{path} holds no keys; `ionloop init` writes an example")
    source = Source(path, data, marks)
    if (loop := circular(data)) is not None:
        line = f", line {source.line(loop)}" if source.line(loop) else ""
        raise RunFileError(
            f"{path}{line}: {dotted(loop)} holds itself: an anchor (&) with an alias (*) to it "
            "inside; write the values out"
        )
    return source


def circular(data: Any, keys: KeyPath = (), above: tuple[int, ...] = ()) -> KeyPath | None:
    """Return the key path of the first value that holds itself, which YAML's anchors allow."""
    if not isinstance(data, dict | list):
        return None
    if id(data) in above:
        return keys
    parts = data.items() if isinstance(data, dict) else enumerate(data)
    found = (circular(value, (*keys, key), (*above, id(data))) for key, value in parts)
    return next((loop for loop in found if loop is not None), None)


def _yaml_sentence(path: Path, error: MarkedYAMLError) -> str:
    place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
    return f"{path}{place}: this is not YAML: {error.problem}"
