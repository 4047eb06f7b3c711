from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from image_files import DOCKER, ROOT, environment, sections, steps

PROGRAMS = Path(sys.executable).parent
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SCRIPTS = sorted(DOCKER.glob("*.sh"))
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def name(path: Path) -> str:
    return path.name


def passes(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_images_and_scripts() -> None:
    assert [path.stem for path in DOCKERFILES] == ["cpu", "gpu"]
    assert len(SCRIPTS) >= 6


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_hadolint(path: Path) -> None:
    passes(PROGRAMS / "hadolint", path)


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_are_sound(path: Path) -> None:
    passes("bash", "-n", path)
    passes(PROGRAMS / "shellcheck", path)
    assert path.stat().st_mode & 0o111


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_images_copy_what_the_context_has(path: Path) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    sources = [
        word for step in steps(path) if step.instruction == "COPY" for word in step.words[:-1]
    ]
    assert sources
    assert not [source for source in sources if not (ROOT / source).exists()]
    assert {source.split("/")[0] for source in sources} <= kept


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_workers_have_no_rights_and_one_thread(path: Path) -> None:
    instructions = {step.instruction: step for step in steps(path)}
    assert instructions["USER"].text == "1000:1000"
    assert instructions["ENTRYPOINT"].words[-1] == "ionloop-worker"
    threads = {key: value for key, value in environment(path).items() if "THREADS" in key}
    assert len(threads) == 3
    assert set(threads.values()) == {"1"}


def test_the_apptainer_recipe_takes_the_same_steps() -> None:
    recipe, dockerfile = sections(DOCKER / "worker.def"), DOCKER / "cpu.Dockerfile"
    exports = dict(line.removeprefix("export ").split("=", 1) for line in recipe["environment"])
    assert exports == environment(dockerfile)
    runs = [step.text for step in steps(dockerfile) if step.instruction == "RUN"]
    commands = [
        part.replace("$EXTRAS", "{{ EXTRAS }}") for run in runs for part in run.split(" && ")
    ]
    assert recipe["post"] == commands
    assert f"From: {steps(dockerfile)[0].text}" in recipe[""]
    assert f"EXTRAS={environment_of_build(dockerfile)['EXTRAS']}" in recipe["arguments"]


def environment_of_build(dockerfile: Path) -> dict[str, str]:
    (argument,) = [step for step in steps(dockerfile) if step.instruction == "ARG"]
    return argument.assignments({})


def test_the_apptainer_recipe_copies_the_same_files() -> None:
    copied = dict(shlex.split(line) for line in sections(DOCKER / "worker.def")["files"])
    expected: dict[str, str] = {}
    for step in steps(DOCKER / "cpu.Dockerfile"):
        if step.instruction == "COPY":
            *sources, target = step.words
            folder = target.endswith("/")
            expected |= {s: target + Path(s).name if folder else target for s in sources}
    assert copied == expected


def test_compose_has_a_guarded_database_and_a_worker() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"mongo", "worker", "worker-gpu"}
    assert services["mongo"]["image"].startswith("mongo:8.")
    assert "healthcheck" in services["mongo"]
    assert services["worker"]["depends_on"]["mongo"] == {"condition": "service_healthy"}
    assert services["worker"]["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in services["mongo"]["ports"])
    assert {"mongo", "work"} == set(COMPOSE["volumes"])


def test_the_workers_never_see_the_administrator() -> None:
    for service in ("worker", "worker-gpu"):
        variables = COMPOSE["services"][service]["environment"]
        assert variables["MONGO_USER"] == "ionloop"
        assert not [key for key in variables if "ADMIN" in key or "ROOT" in key]
    assert 'role: "readWrite"' in (DOCKER / "mongo-init.js").read_text()


def test_every_password_is_asked_for() -> None:
    example = (DOCKER / ".env.example").read_text()
    for password in ("MONGO_ADMIN_PASSWORD", "MONGO_PASSWORD"):
        assert f"{password}=\n" in example
        assert f"${{{password}:?" in (DOCKER / "compose.yaml").read_text()


def test_extras_pin_one_deepmd_and_never_mix_cuda_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {
        name: next(need for need in needs if need.startswith("deepmd-kit["))
        for name, needs in project["optional-dependencies"].items()
        if name.startswith("deepmd")
    }
    assert set(found) == {"deepmd", "deepmd-gpu", "deepmd-gpu-torch"}
    assert {need.partition("==")[2] for need in found.values()} == {"3.2.0"}
    options = {name: set(need[11 : need.index("]")].split(",")) for name, need in found.items()}
    assert options["deepmd-gpu"] == {"gpu", "cu12", "lmp"}
    assert options["deepmd-gpu-torch"] == {"lmp", "torch"}
