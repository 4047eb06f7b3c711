"""Settings of molecular dynamics with ASE calculators."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ionloop.codes.common.md import MdSettings

Batched = Literal["auto", "never", "always"]


class AseSettings(MdSettings):
    """Where the potentials compute, and when a trajectory has exploded."""

    device: str = "cpu"
    """device of torch: cpu, cuda, cuda:1, …; DeePMD-kit chooses by itself"""
    batched: Batched = "auto"
    """whether the trajectories of a job advance together and torch-sim evaluates them as one batch:
    auto (on a GPU, where torch-sim is installed and knows the kind), never, or always"""
    restart_every: PositiveInt = 500
    """steps between restart files, from which a trajectory goes on after its worker was lost; a
    shorter one is begun anew"""
