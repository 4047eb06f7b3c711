"""What the pre-flight check finds out about LAMMPS and the models that it is to load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ionloop.preflight.codes.base import look_at_models
from ionloop.runfile.sections.deepmd import DeepmdSection
from ionloop.runfile.sections.dpa import DpaSection
from ionloop.runfile.sections.lammps import LammpsSection


@pytest.fixture
def without_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LammpsSection:
    program = tmp_path / "my-lmp"
    said = "LAMMPS (22 Jul 2025)\ndeepmd\nERROR: Unable to load PyTorch backend plugin (a.so)."
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return LammpsSection.model_validate({"code": "lammps", "command": "my-lmp"})


def test_a_plugin_that_does_not_load_the_models_is_told(without_backend: LammpsSection) -> None:
    train = DeepmdSection.model_validate({"code": "deepmd", "backend": "pytorch"})
    there, finding = look_at_models(without_backend, train)
    assert (there.level, there.key) == ("ok", "explore.command")
    assert (finding.level, finding.key) == ("error", "explore.command")
    assert "'my-lmp' does not load PyTorch models (.pth)" in finding.sentence


def test_dpa_models_are_models_of_pytorch(without_backend: LammpsSection) -> None:
    _, finding = look_at_models(without_backend, DpaSection(base="DPA.pt"))
    assert (finding.level, finding.key) == ("error", "explore.command")
    assert "does not load PyTorch models (.pth)" in finding.sentence


def test_tensorflow_is_not_asked_for(without_backend: LammpsSection) -> None:
    train = DeepmdSection.model_validate({"code": "deepmd"})
    (finding,) = look_at_models(without_backend, train)
    assert finding.level == "ok"
    assert finding.sentence == "LAMMPS (22 Jul 2025) explores, with pair_style deepmd"


def test_a_lammps_that_is_not_there_is_told_once() -> None:
    train = DeepmdSection.model_validate({"code": "deepmd", "backend": "pytorch"})
    section = LammpsSection.model_validate({"code": "lammps", "command": "no-such-lmp"})
    (finding,) = look_at_models(section, train)
    assert (finding.level, finding.key) == ("error", "explore.command")
    assert "no-such-lmp" in finding.sentence
