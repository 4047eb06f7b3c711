"""DeePMD-kit: trains ensembles of networks."""

from __future__ import annotations

from ionloop.codes.common.prediction import Prediction, force_errors
from ionloop.codes.deepmd.data import write_systems
from ionloop.codes.deepmd.network import choose_sel
from ionloop.codes.deepmd.prediction import predict
from ionloop.codes.deepmd.program import (
    SUFFIXES,
    MissingProgramError,
    check_backend,
    program_version,
)
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.deepmd.training import Training, read_learning_curve, train
from ionloop.codes.deepmd.warm_start import other_network

__all__ = [
    "SUFFIXES",
    "DeepmdSettings",
    "MissingProgramError",
    "Prediction",
    "Training",
    "check_backend",
    "choose_sel",
    "force_errors",
    "other_network",
    "predict",
    "program_version",
    "read_learning_curve",
    "train",
    "write_systems",
]
