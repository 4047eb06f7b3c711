"""What all Makers share: roles, and fields that keep their values."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from importlib import import_module
from inspect import isabstract
from typing import Any

import pytest
from jobflow import Flow
from monty.json import MontyDecoder, MontyEncoder

from ionloop.codes.dpa.settings import DpaSettings
from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.codes.mace.settings import MaceSettings
from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.codes.teacher import TeacherSettings
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import FrozenMaker
from ionloop.schemas.frames import Frames

MODULES = (
    "ionloop.flows.concurrent_learning.maker",
    "ionloop.jobs.label.dft",
    "ionloop.jobs.label.external",
    "ionloop.jobs.label.vasp",
    "ionloop.jobs.train.chgnet",
    "ionloop.jobs.train.dpa",
    "ionloop.jobs.train.mace",
    "ionloop.jobs.train.sevennet",
)
NEEDED: dict[str, dict[str, Any]] = {
    "DpaTrainMaker": {"settings": DpaSettings(base="DPA.pt")},
    "FineTuneMaker": {"settings": SevennetSettings()},
    "MaceTrainMaker": {"settings": MaceSettings(base="MACE.model")},
    "TeacherLabelMaker": {"settings": TeacherSettings(kind="deepmd", models=["0a"]), "job": "1b"},
}
"""Fields without a default, by Maker."""


def subclasses(base: type[FrozenMaker]) -> Iterator[type[FrozenMaker]]:
    for each in base.__subclasses__():
        yield from subclasses(each)
        if each.__module__.startswith("ionloop.") and not isabstract(each):
            yield each


def all_makers() -> list[FrozenMaker]:
    for module in MODULES:
        import_module(module)
    return [each(**NEEDED.get(each.__name__, {})) for each in subclasses(FrozenMaker)]


def test_every_maker_keeps_its_fields() -> None:
    makers = all_makers()
    names = {type(maker).__name__ for maker in makers}
    assert {
        "ConcurrentLearningMaker",
        "Cp2kLabelMaker",
        "DeepmdTrainMaker",
        "DistilMaker",
        "ExternalLabelMaker",
        "ForceFieldLabelMaker",
        "GpawLabelMaker",
        "LammpsExploreMaker",
        "VaspLabelMaker",
        "WindowSelectMaker",
    } <= names
    for maker in makers:
        for field in fields(maker):
            before = getattr(maker, field.name)
            with pytest.raises(FrozenInstanceError):
                setattr(maker, field.name, "another")
            with pytest.raises(FrozenInstanceError):
                delattr(maker, field.name)
            assert getattr(maker, field.name) is before


def test_every_maker_travels_and_can_be_replaced() -> None:
    for maker in all_makers():
        assert copy.deepcopy(maker) == maker
        assert pickle.loads(pickle.dumps(maker)) == maker
        assert MontyDecoder().decode(MontyEncoder().encode(maker)) == maker
        assert replace(maker, name="another").name == "another"  # type: ignore[call-arg]


def test_jobflow_can_change_makers_of_a_flow(gold_copper: Frames) -> None:
    maker = ForceFieldLabelMaker(settings=ForceFieldSettings(model="ase.calculators.emt:EMT"))
    changed = maker.update_kwargs({"batch_size": 7})
    assert (changed.batch_size, changed.settings, maker.batch_size) == (7, maker.settings, 25)
    loop = import_module(MODULES[0]).ConcurrentLearningMaker(label=maker)
    nested = loop.update_kwargs({"floor": 0.5}, class_filter=ForceFieldLabelMaker)
    assert (nested.label.floor, loop.label.floor) == (0.5, 0.9)
    flow = maker.make([gold_copper[:1]])
    flow.update_maker_kwargs({"batch_size": 7})
    assert isinstance(flow, Flow)


def test_a_role_is_stored_as_its_word(gold_copper: Frames) -> None:
    job = ForceFieldLabelMaker().relax([gold_copper[:1]])
    assign(job, Role.EVALUATE, "look", bookkeeping=True)
    assert job.metadata == {"role": "evaluate", "cores": 1, "light": True}
    assert type(job.metadata["role"]) is str
    with pytest.raises(ValueError, match="'cook' is not a valid Role"):
        assign(job, "cook", "look")  # type: ignore[arg-type]
