"""The codes of the run file: a section class for each, and the table that names them.

A section holds the settings of a code beside the fields of its Maker. To add a code, write its
section class here and enter it in `CODES`.

The rates are those of single runs on one core of a shared machine, ±30 %; they serve an estimate
that says it is rough.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from os.path import expandvars
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from ionloop.codes import cp2k, deepmd, forcefield, gpaw, lammps, vasp
from ionloop.codes.common.dft import DftSettings
from ionloop.codes.common.errors import OtherLevelError
from ionloop.codes.cp2k.settings import Cp2kSettings
from ionloop.codes.deepmd import warm_start as deepmd_input
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.external.settings import ExternalSettings
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.codes.lammps.settings import LammpsSettings
from ionloop.codes.vasp.settings import VaspSettings
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.explore.starts import Perturbation
from ionloop.jobs.label.dft import Cp2kLabelMaker, DftLabelMaker, GpawLabelMaker
from ionloop.jobs.label.external import ExternalLabelMaker
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.vasp import VaspLabelMaker
from ionloop.jobs.roles import ExploreMaker, LabelMaker, TrainMaker
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.programs.errors import MissingExtraError
from ionloop.programs.process import ProgramError
from ionloop.runfile.findings import Finding, error, ok, warning
from ionloop.schemas.document import Model
from ionloop.schemas.environment import absolute
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import Kept, KPoints, n_points
from ionloop.selection.physical import PhysicalLimits

MOST_MODELS = 100
"""Models of a training: more are a slip of the pen, and each is a job."""


Fraction = Annotated[float, Field(ge=0, le=1)]

Floor = Annotated[
    Fraction,
    Field(description="smallest accepted fraction of the labels with which a turn goes on"),
]

Allowance = Annotated[
    NonNegativeInt,
    Field(
        description="labels that a step may lose even if that is below the floor, as long as one "
        "is accepted"
    ),
]

Quorum = Annotated[
    Fraction,
    Field(
        description="fraction of the labels with which a turn goes on while the others are still "
        "calculated; those join the next turn"
    ),
]


class CodeSection(Model, ABC):
    """One code in its role: its settings and the fields of its Maker, side by side."""

    settings_type: ClassVar[type[Model]]
    maker_type: ClassVar[Any]

    code: str

    def build(self, **given: Any) -> Any:
        """Return the Maker, with what the section does not know given."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "code"}
        settings = {name: values.pop(name) for name in self.settings_type.model_fields}
        return self.maker_type(settings=self.settings_type(**settings), **values, **given)

    def located(self, folder: Path) -> Self:
        """Return the section with paths relative to `folder` made absolute."""
        return self

    @abstractmethod
    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Look whether the code is there and fits the elements (chemical symbols)."""


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

    @abstractmethod
    def label_seconds(self, n_atoms: int) -> float | None:
        """Estimate the core seconds of one label, None where nothing is known."""

    def dynamics_seconds(self, n_atoms: int) -> float | None:
        """Estimate the core seconds of one step of its molecular dynamics, likewise."""
        return self.label_seconds(n_atoms)


class TrainSection(CodeSection):
    """A trainer."""

    n_models: int
    min_models: int
    validation_fraction: float

    @property
    @abstractmethod
    def model_suffix(self) -> str:
        """Suffix of the model files."""

    @abstractmethod
    def maker(self, type_map: Sequence[str]) -> TrainMaker:
        """Return the Maker."""

    @abstractmethod
    def for_production(self, production: Production) -> Self:
        """Return the section that trains the potential at the end."""

    @abstractmethod
    def other_network(self, other: Self) -> list[str]:
        """Return the keys in which two networks differ, so that none can start from the other."""

    @abstractmethod
    def training_seconds(self, n_atoms: int, *, warm: bool) -> float:
        """Estimate the core seconds of one model on frames of `n_atoms`."""

    @abstractmethod
    def words(self) -> str:
        """Say what is trained, as a part of a sentence."""


class ExploreSection(CodeSection):
    """An explorer."""

    limits: PhysicalLimits

    @abstractmethod
    def maker(self, type_map: Sequence[str]) -> ExploreMaker:
        """Return the Maker."""

    @abstractmethod
    def preflight_models(self, suffix: str) -> Iterator[Finding]:
        """Look whether models are understood whose files have a suffix such as ``.pth``."""

    @abstractmethod
    def step_seconds(self, n_atoms: int, n_models: int, dump_every: int) -> float:
        """Estimate the core seconds of one MD step."""


class Production(Model):
    """The training at the end; any key of `train` may be given here too and then replaces it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    steps: PositiveInt | None = Field(
        None, description="training steps, also of a warm start; none: those of `train.steps`"
    )
    n_models: PositiveInt = Field(
        1, le=MOST_MODELS, description="models, of which the first is the potential"
    )
    warm_start: bool = Field(
        True,
        description="start from the last ensemble, not from scratch; another network than the "
        "ensemble's starts from scratch in any case",
    )
    train_on_all: bool = Field(
        False,
        description="train on the frames too that `train.validation_fraction` holds back; the "
        "potential then has no held-back error",
    )

    @model_validator(mode="after")
    def _check_held_back(self) -> Self:
        if self.train_on_all and "validation_fraction" in self.overrides:
            raise ValueError("train_on_all leaves no validation_fraction: give one of the two")
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """The keys of `train` that are given here."""
        return dict(self.model_extra or {})


class ForceFieldSection(LabelSection, ForceFieldSettings):
    """Labels from a universal potential, or from any ASE calculator."""

    settings_type = ForceFieldSettings
    maker_type = ForceFieldLabelMaker
    seconds_of_50_atoms: ClassVar[Mapping[str, float]] = {
        "7net-l3i5": 0.59,
        "7net-0": 0.21,
        "7net-mf-0": 0.21,
        "chgnet": 0.08,
    }

    code: Literal["forcefield"] = Field("forcefield", description="a universal potential")
    batch_size: PositiveInt = Field(
        ForceFieldLabelMaker.batch_size,
        description="frames per job; every label is safe as soon as it is calculated",
    )
    floor: Floor = ForceFieldLabelMaker.floor
    allowance: Allowance = ForceFieldLabelMaker.allowance
    quorum: Quorum = ForceFieldLabelMaker.quorum
    cores: PositiveInt = Field(ForceFieldLabelMaker.cores, description="cores of one job")

    def located(self, folder: Path) -> Self:
        """Return the section with the checkpoint's path made absolute."""
        if self.checkpoint is None:
            return self
        return self.model_copy(update={"checkpoint": absolute(self.checkpoint, folder)})

    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Load the model, and compare its elements with those wanted."""
        try:
            level = self.maker().level
            forcefield.calculator(self)
            covered = forcefield.covered_elements(self)
        except Exception as problem:  # noqa: BLE001  # a calculator of the user may raise anything
            cure = "" if isinstance(problem, (ImportError, OSError, ValueError)) else "check it"
            yield error("label.model", f"{self.model} cannot be used: {_words(problem)}", cure)
            return
        yield ok("label.model", f"labels come from {level.words}")
        yield from _coverage(self.model, covered, elements)

    def label_seconds(self, n_atoms: int) -> float | None:
        """Estimate the core seconds of one label, None where nothing is known."""
        rate = self.seconds_of_50_atoms.get(self.model.lower())
        return None if rate is None else rate * n_atoms / 50


class DftSection(LabelSection, DftSettings):
    """A labeller that starts a DFT program per frame."""

    starts_a_program = True

    batch_size: PositiveInt = Field(
        DftLabelMaker.batch_size,
        description="frames per job; every label is safe as soon as it is calculated",
    )
    floor: Floor = DftLabelMaker.floor
    allowance: Allowance = DftLabelMaker.allowance
    quorum: Quorum = DftLabelMaker.quorum
    cores: PositiveInt = Field(DftLabelMaker.cores, description="MPI ranks of a calculation")

    @property
    def sampling(self) -> KPoints:
        """The k-points."""
        return self.kpoints

    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Start the program for its version, and look for what it needs for each element."""
        try:
            yield from self.probe(elements)
        except (ProgramError, OtherLevelError, FileNotFoundError) as problem:
            yield error("label.command", _words(problem))
            return
        yield ok("label", f"labels come from {self.maker().level.words}")

    @abstractmethod
    def probe(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Start the program and say what it lacks.

        Raises
        ------
        ProgramError, OtherLevelError, ProgramNotFoundError, FileNotFoundError
            If it does not answer.
        """


class GpawSection(GpawSettings, DftSection):
    """Labels from GPAW in plane waves."""

    settings_type = GpawSettings
    maker_type = GpawLabelMaker

    code: Literal["gpaw"] = Field("gpaw", description="GPAW, plane waves")

    def probe(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Start GPAW and say which setups it lacks."""
        with TemporaryDirectory() as folder:
            answer = gpaw.probe(self, elements, Path(folder), self.cores)
        version, ranks = answer["version"], answer["ranks"]
        yield ok("label.command", f"GPAW {version} labels, on {ranks} MPI rank(s) a frame")
        yield _there("label.setups", {"setup": answer["missing"]}, elements)

    def label_seconds(self, n_atoms: int) -> float | None:
        """Estimate the core seconds of one label: 48 for 50 atoms of LGPS at Γ and 400 eV."""
        size: float = (n_atoms / 50) ** 2.5 * (self.cutoff / 400) ** 1.5
        return 48 * size * n_points(self.kpoints, n_atoms)


class Cp2kSection(Cp2kSettings, DftSection):
    """Labels from CP2K, Gaussians and plane waves."""

    settings_type = Cp2kSettings
    maker_type = Cp2kLabelMaker

    code: Literal["cp2k"] = Field("cp2k", description="CP2K")

    def probe(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Start CP2K and say which basis sets and pseudopotentials its data folder lacks."""
        version, data = cp2k.probe(self, self.cores)
        yield ok("label.command", f"CP2K {version} labels, on {self.cores} MPI rank(s) a frame")
        yield _there("label.kinds", cp2k.missing_kinds(self, elements, data), elements)

    def label_seconds(self, n_atoms: int) -> float | None:
        """Estimate the core seconds of one label: 214 for 50 atoms of LGPS at Γ."""
        return 214 * (n_atoms / 50) ** 2 * n_points(self.kpoints, n_atoms)


class VaspSection(LabelSection, VaspSettings):
    """Labels from VASP, under custodian."""

    settings_type = VaspSettings
    maker_type = VaspLabelMaker
    starts_a_program = True

    code: Literal["vasp"] = Field("vasp", description="VASP")
    batch_size: PositiveInt = Field(
        VaspLabelMaker.batch_size, description="frames per job; 1 lets a queue spread them"
    )
    floor: Floor = VaspLabelMaker.floor
    allowance: Allowance = VaspLabelMaker.allowance
    quorum: Quorum = VaspLabelMaker.quorum
    cores: PositiveInt = Field(VaspLabelMaker.cores, description="MPI ranks of a calculation")

    @property
    def sampling(self) -> KPoints:
        """The k-points, of the preset where the run file says none."""
        return vasp.kpoints(self)

    def maker(self) -> LabelMaker:
        """Return the Maker."""
        maker: LabelMaker = self.build()
        return maker

    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Look for atomate2, VASP and the POTCARs; show INCAR, KPOINTS and POTCAR.spec."""
        yield from self._look_for_programs()
        try:
            inputs = vasp.in_words(self, elements)
        except ValueError as problem:
            yield error("label.potcars", _words(problem))
            return
        for name, content in inputs.items():
            yield ok("label", f"{name}: {content}")
        yield from self._look_at_identities(elements)
        for element in elements:
            yield from self._look_at_potcar(element)

    @property
    def doubtful_keys(self) -> list[str]:
        """Hashes under which version 0.1 kept labels that may, or may not, be of this level."""
        return vasp.doubtful_keys(self)

    def _look_for_programs(self) -> Iterator[Finding]:
        if find_spec("atomate2") is None:
            missing = MissingExtraError("atomate2", "vasp", "labelling with VASP")
            yield error("label.code", _words(missing))
        for command in filter(None, (self.vasp_cmd, self.vasp_gamma_cmd)):
            first = [*shlex.split(expandvars(command)), ""][0]
            if which(first) is None:
                cure = "load its module, or say in label.vasp_cmd how VASP is started"
                yield error("label.vasp_cmd", f"{first} is not on PATH", cure)
            else:
                yield ok("label.vasp_cmd", f"VASP is started by: {command}")

    def _look_at_identities(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Say which POTCARs the labels are of, in the words of the run file."""
        try:
            vasp.check_known(self, elements)
        except (vasp.MissingPotcarError, ValueError) as problem:
            yield error("label.potcars", _words(problem))
            return
        known = vasp.pinned(self).potentials or {}
        said = (f"{each}: {{{known[each].yaml}}}" for each in elements)
        yield ok("label.potentials", f"the labels are of {{{', '.join(said)}}}")

    def _look_at_potcar(self, element: str) -> Iterator[Finding]:
        symbol, expected = vasp.potcars(self)[element], vasp.valence(self, element)
        try:
            potential = vasp.find_potential(symbol, self.potcar_functional)
        except (vasp.MissingPotcarError, ValueError):
            if self.potentials is not None and element in self.potentials:
                sentence = f"the POTCAR of {symbol} is not on this host, so it is not looked into"
                yield ok("label.potcars", sentence)
            return
        known = (self.potentials or {}).get(element, potential.identity)
        if known != potential.identity:
            sentence = (
                f"the POTCAR of {symbol} of this host is {potential.identity.words}; the labels "
                f"are of {known.words}"
            )
            yield warning("label.potentials", sentence, vasp.SAME_POTCAR)
        has = f"the POTCAR of {symbol} ({potential.identity.title})"
        if expected is not None and potential.valence != expected:
            sentence = f"{has} has {potential.valence:g} valence electrons, not {expected}"
            yield error("label.potcars", sentence, "name another POTCAR, or another preset")
        if potential.enmax > vasp.cutoff(self):
            sentence = f"{has} recommends a cut-off of {potential.enmax:g} eV (ENMAX)"
            yield warning("label.encut", sentence, f"{vasp.cutoff(self):g} eV is too low for it")
        if not potential.known:
            sentence = f"{has} is none of those that pymatgen knows"
            yield warning("label.potcars", sentence, "see whether the file is whole")

    def label_seconds(self, n_atoms: int) -> float:
        """Estimate the core seconds of one label: two steps of AIMD, as it has no start."""
        return 2 * self.dynamics_seconds(n_atoms)

    def dynamics_seconds(self, n_atoms: int) -> float:
        """Estimate the core seconds of one step of AIMD, which has a wave function to start from.

        For 200 atoms of LGPS it took 2,495 at Γ and 500 eV (Miyagawa 2024, table S1).
        """
        size: float = (n_atoms / 200) ** 2.5 * (vasp.cutoff(self) / 500) ** 1.5
        return 2495 * size


class ExternalSection(LabelSection, ExternalSettings):
    """Labels that are calculated outside and imported by ``ionloop label``."""

    settings_type = ExternalSettings
    maker_type = ExternalLabelMaker
    relaxes = False
    runs_dynamics = False

    code: Literal["external"] = Field("external", description="labels from outside")
    floor: Fraction = Field(
        ExternalLabelMaker.floor,
        description="smallest fraction of the labels with which a turn goes on",
    )
    allowance: Allowance = ExternalLabelMaker.allowance

    def located(self, folder: Path) -> Self:
        """Return the section with the path of the frames to label made absolute."""
        return self.model_copy(update={"folder": absolute(self.folder, folder)})

    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Say where the frames will be written."""
        sentence = f"frames to label will be written to {self.folder}; the run pauses for them"
        yield ok("label.folder", sentence)
        yield ok("label", f"labels come from {self.maker().level.words}")

    def label_seconds(self, n_atoms: int) -> float | None:
        """Return None: what runs outside is not known."""
        return None


class DeepmdSection(TrainSection, DeepmdSettings):
    """An ensemble of DeePMD-kit models that differ in their seeds."""

    settings_type = DeepmdSettings
    maker_type = DeepmdTrainMaker

    code: Literal["deepmd"] = Field("deepmd", description="DeePMD-kit")
    n_models: PositiveInt = Field(
        DeepmdTrainMaker.n_models,
        le=MOST_MODELS,
        description="models in the ensemble, 2 or more",
    )
    min_models: PositiveInt = Field(
        DeepmdTrainMaker.min_models, description="models that must succeed for a turn to go on"
    )
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        DeepmdTrainMaker.validation_fraction,
        description="fraction of the frames held back from training, for good and by whole "
        "trajectories; of files 20 frames in a row",
    )
    cores: PositiveInt = Field(DeepmdTrainMaker.cores, description="cores of one training")
    per_gpu: PositiveInt = Field(
        DeepmdTrainMaker.per_gpu,
        description="trainings side by side in one job, which share its GPU (by NVIDIA's MPS "
        "where it is installed)",
    )

    def maker(self, type_map: Sequence[str]) -> TrainMaker:
        """Return the Maker."""
        maker: TrainMaker = self.build(type_map=list(type_map))
        return maker

    @property
    def model_suffix(self) -> str:
        """Suffix of the model files."""
        return deepmd.SUFFIXES[self.backend]

    def for_production(self, production: Production) -> Self:
        """Return the section that trains the potential at the end."""
        steps = production.steps or self.steps
        changes: dict[str, Any] = {
            "steps": steps,
            "warm_steps": steps if production.warm_start else None,
            "n_models": production.n_models,
            "min_models": 1,
        }
        if production.train_on_all:
            changes["validation_fraction"] = 0.0
        given = self.model_dump(exclude_unset=True)
        return self.model_validate(given | changes | production.overrides)

    def other_network(self, other: TrainSection) -> list[str]:
        """Return the keys in which two networks differ, so that none can start from the other."""
        return deepmd.other_network(self, other) if isinstance(other, DeepmdSection) else ["code"]

    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Look for DeePMD-kit and the backend."""
        try:
            deepmd.check_backend(self.backend)
            version = deepmd.program_version(self.command)
        except deepmd.MissingProgramError as problem:
            yield error("train.command", _words(problem))
            return
        yield ok("train.command", f"DeePMD-kit {version} trains, backend {self.backend}")
        if refusal := deepmd_input.refusal(self):
            sentence = f"DeePMD-kit does not take this dictionary: {refusal}"
            yield error("train.model", sentence, "correct it, or name a descriptor")

    def training_seconds(self, n_atoms: int, *, warm: bool) -> float:
        """Estimate the core seconds of one model: a fit to four nets on 50 atoms of LGPS."""
        embedding = sum(a * b for a, b in zip([1, *self.neurons], self.neurons, strict=False))
        fitting = sum(a * b for a, b in zip(self.fitting, self.fitting[1:], strict=False))
        entrance = self.axis_neurons * self.neurons[-1] * self.fitting[0]
        weights = 112 * (self.rcut / 6.0) ** 3 * embedding + entrance + fitting
        steps = self.warm_steps if warm and self.warm_steps else self.steps
        return steps * (2e-3 + n_atoms * (5e-5 + 8e-10 * weights)) + 15

    def words(self) -> str:
        """Say what is trained, as a part of a sentence."""
        descriptor = self.model if isinstance(self.model, str) else self.model.get("type", "own")
        warm = f", then {self.warm_steps} from the last turn's" if self.warm_steps else ""
        return f"DeePMD models ({descriptor}, {self.steps} steps{warm})"


class LammpsSection(ExploreSection, LammpsSettings):
    """Molecular dynamics with LAMMPS."""

    settings_type = LammpsSettings
    maker_type = LammpsExploreMaker

    code: Literal["lammps"] = Field("lammps", description="LAMMPS")
    perturbation: Perturbation = Field(
        Perturbation(), description="how start structures are disturbed"
    )
    limits: PhysicalLimits = Field(
        PhysicalLimits(), description="frames beyond them are failed, whatever the deviation"
    )
    batch_size: PositiveInt = Field(
        LammpsExploreMaker.batch_size,
        description="trajectories per job; those of one process share a start-up of LAMMPS",
    )
    max_candidates: PositiveInt = Field(
        LammpsExploreMaker.max_candidates,
        description="candidates per trajectory that may be picked; evenly thinned above",
    )
    floor: Fraction = Field(
        LammpsExploreMaker.floor,
        description="fraction of the trajectories that must give at least one frame",
    )
    cores: PositiveInt = Field(LammpsExploreMaker.cores, description="cores of one LAMMPS process")
    per_gpu: PositiveInt = Field(
        LammpsExploreMaker.per_gpu,
        description="LAMMPS processes side by side in one job, which share its trajectories and "
        "its GPU (by NVIDIA's MPS where it is installed)",
    )

    def maker(self, type_map: Sequence[str]) -> ExploreMaker:
        """Return the Maker."""
        maker: ExploreMaker = self.build(type_map=list(type_map))
        return maker

    def preflight(self, elements: Sequence[str]) -> Iterator[Finding]:
        """Look for LAMMPS with ``pair_style deepmd``."""
        try:
            version = lammps.program_version(self.command)
        except lammps.LammpsError as problem:
            yield error("explore.command", _words(problem).removeprefix("explore.command: "))
            return
        yield ok("explore.command", f"LAMMPS ({version}) explores, with pair_style deepmd")

    def preflight_models(self, suffix: str) -> Iterator[Finding]:
        """Let LAMMPS load the part of its plugin that the models need, in some seconds."""
        if suffix == deepmd.SUFFIXES["tensorflow"]:  # which the wheel pins
            return
        try:
            lammps.check_models(self.command, suffix)
        except lammps.LammpsError as problem:
            yield error("explore.command", _words(problem).removeprefix("explore.command: "))

    def step_seconds(self, n_atoms: int, n_models: int, dump_every: int) -> float:
        """Estimate the core seconds of one MD step; all models but one run at dumps only."""
        return n_atoms * 2.5e-4 * (1 + (n_models - 1) / dump_every)


CODES: Mapping[str, Mapping[str, type[CodeSection]]] = {
    "label": {
        "forcefield": ForceFieldSection,
        "gpaw": GpawSection,
        "cp2k": Cp2kSection,
        "vasp": VaspSection,
        "external": ExternalSection,
    },
    "train": {"deepmd": DeepmdSection},
    "explore": {"lammps": LammpsSection},
}


def section_type(role: str, value: Any) -> type[CodeSection]:
    """Return the class of a section from its `code`; the first of its role if none is named.

    Raises
    ------
    KeyError
        If the role has no code of that name.
    """
    known = CODES[role]
    code = value.get("code") if isinstance(value, Mapping) else None
    return known[str(code) if code else next(iter(known))]


def _section(role: str) -> BeforeValidator:
    def choose(value: Any) -> Any:
        if isinstance(value, CodeSection):
            return value
        try:
            return section_type(role, value).model_validate(value)
        except KeyError:
            raise _unknown_code(role, value["code"]) from None

    return BeforeValidator(choose)


def _unknown_code(role: str, code: Any) -> ValidationError:
    message = f"unknown code; known: {', '.join(CODES[role])}"
    problem = PydanticCustomError("unknown_code", "{message}", {"message": message})
    details = InitErrorDetails(type=problem, loc=("code",), input=code)
    return ValidationError.from_exception_data(role, [details])


AnyLabelSection = Annotated[SerializeAsAny[LabelSection], _section("label")]

AnyTrainSection = Annotated[SerializeAsAny[TrainSection], _section("train")]

AnyExploreSection = Annotated[SerializeAsAny[ExploreSection], _section("explore")]


def _coverage(model: str, covered: set[str] | None, elements: Sequence[str]) -> Iterator[Finding]:
    missing = [symbol for symbol in elements if covered is not None and symbol not in covered]
    if covered is None:
        yield warning("label.model", f"{model} does not say which elements it covers")
    elif missing:
        sentence = f"{model} does not cover {', '.join(missing)}"
        yield error("label.model", sentence, "choose a labeller that covers every element")
    else:
        yield ok("label.model", f"{model} covers {', '.join(elements)}")


def _there(key: str, missing: Mapping[str, list[str]], elements: Sequence[str]) -> Finding:
    lacks = [f"no {kind} for {', '.join(names)}" for kind, names in missing.items() if names]
    if lacks:
        cure = "install more of them, or name others"
        return error(key, f"the program has {' and '.join(lacks)}", cure)
    return ok(key, f"there is a {' and a '.join(missing)} for {', '.join(elements)}")


def _words(problem: BaseException) -> str:
    return str(problem) or type(problem).__name__
