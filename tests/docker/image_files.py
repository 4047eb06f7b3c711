"""Reads Dockerfiles and Apptainer recipes, as far as this project uses their languages."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


class Step(NamedTuple):
    """One instruction of a Dockerfile and what follows it, on one line."""

    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)

    def assignments(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return NAME=VALUE of an ENV or ARG, with variables put in."""
        pairs = (word.partition("=") for word in self.words)
        return {name: Template(value).safe_substitute(variables) for name, _, value in pairs}


def steps(dockerfile: Path) -> list[Step]:
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [Step(instruction, text.strip()) for instruction, _, text in pairs]


def environment(dockerfile: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for step in steps(dockerfile):
        if step.instruction == "ENV":
            found |= step.assignments(found)
    return found


def sections(recipe: Path) -> dict[str, list[str]]:
    """Return an Apptainer recipe's lines by section, the header's under ""."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in recipe.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found
