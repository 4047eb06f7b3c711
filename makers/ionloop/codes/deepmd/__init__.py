"""DeePMD-kit: trains ensembles of networks."""

from __future__ import annotations

from ionloop.codes.deepmd.prediction import predict as predict
from ionloop.codes.deepmd.program import SUFFIXES as SUFFIXES
from ionloop.codes.deepmd.program import MissingProgramError as MissingProgramError
from ionloop.codes.deepmd.program import check_backend as check_backend
from ionloop.codes.deepmd.program import program_version as program_version
from ionloop.codes.deepmd.settings import DeepmdSettings as DeepmdSettings
from ionloop.codes.deepmd.training import train as train
from ionloop.codes.deepmd.warm_start import other_network as other_network
