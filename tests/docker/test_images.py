"""Builds the images' steps in a bare Debian root and starts what the images are for."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from bare_root import BareRoot, built, mirror
from image_files import DOCKER

WANTED = os.environ.get("IONLOOP_TEST_IMAGES", "").split(",")


def image(name: str, needs: str) -> object:
    reason = f"IONLOOP_TEST_IMAGES does not name {name} (which needs root, {needs})"
    return pytest.param(name, marks=pytest.mark.skipif(name not in WANTED, reason=reason))


IMAGES = [image("cpu", "5 minutes, 5 GB of disk"), image("gpu", "10 minutes, 8 GB of disk")]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=IMAGES)
def name(request: pytest.FixtureRequest) -> str:
    if os.geteuid() != 0:
        pytest.skip("only root can make a Debian root")
    if missing := [program for program in ("debootstrap", "unshare") if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if not mirror("bookworm"):
        pytest.skip("apt knows no mirror of Debian 12 (bookworm) on this machine")
    return str(request.param)


@pytest.fixture(scope="module")
def root(name: str) -> Iterator[BareRoot]:
    with built(DOCKER / f"{name}.Dockerfile") as root:
        yield root


def test_the_programs_answer(root: BareRoot, name: str) -> None:
    said = root.start("/opt/build/check.sh", name)
    assert "ionloop answers" in said
    assert "DeePMD-kit v3.2.0" in said
    assert "LAMMPS has pair style deepmd" in said
    if name == "gpu":
        assert "DeePMD-kit finds the CUDA runtime" in said
    if name == "cpu":
        assert "CP2K version 2023.1" in said
        energy = re.search(r"hydrogen atom .* (\S+) eV", said)
        assert energy is not None
        # Below GPAW's reference, the atom with paired spins in an infinite box.
        assert float(energy[1]) == pytest.approx(-1.295, abs=0.01)


def test_the_worker_has_no_rights(root: BareRoot) -> None:
    assert root.start("id", "--user").split() == ["1000"]
    assert root.start("pwd").split() == ["/home/ionloop/work"]


def test_no_compiler_is_left(root: BareRoot) -> None:
    assert root.start("sh", "-c", "command -v gcc gfortran || echo none").split() == ["none"]


def test_the_worker_reads_its_database(root: BareRoot) -> None:
    said = root.start("sh", "-c", "cat ~/.fireworks/my_launchpad.yaml", MONGO_HOST="db.example")
    assert '"host": "db.example"' in said
