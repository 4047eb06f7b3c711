"""How far an ensemble's predictions are from labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ionloop.codes import potentials
from ionloop.codes.common.prediction import Prediction, ensemble_deviation, force_errors
from ionloop.jobs.documents import stamp, stored_job
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels
from ionloop.schemas.potential import EnsembleDoc, EvaluationDoc
from ionloop.schemas.table import Table, join_tables
from ionloop.selection.calibration import calibrate, max_force_error


@stored_job(EvaluationDoc)
def evaluate_ensemble(ensemble: EnsembleDoc, labels: Labels) -> EvaluationDoc:
    """Compare the ensemble's mean with labels, and its deviation with its true error.

    Parameters
    ----------
    ensemble
        The models.
    labels
        Labelled frames.
    """
    models = [member.model for member in ensemble.members]
    predictions = [
        potentials.predict(ensemble.kind, models, part, Path.cwd()) for part in labels.frames
    ]
    return evaluation(labels.frames, predictions).model_copy(update=stamp())


def evaluation(frames: Sequence[Frames], predictions: Sequence[Prediction]) -> EvaluationDoc:
    """Compare predictions with labels.

    Parameters
    ----------
    frames
        Labelled frames.
    predictions
        What the models of an ensemble say, one prediction per entry of `frames`.
    """
    if not frames:
        empty = Table({"max_devi_f": np.zeros(0), "max_force_error": np.zeros(0)})
        return EvaluationDoc(deviation_against_error=empty, energies=Table({}))
    comparison = join_tables(map(_deviations, frames, predictions))
    return EvaluationDoc(
        errors=force_errors(predictions, frames),
        model_errors=[
            force_errors([p.of(model) for p in predictions], frames)
            for model in range(len(predictions[0].energies))
        ],
        deviation_against_error=comparison,
        energies=join_tables(map(_energies, frames, predictions)),
        rank_correlation=rank_correlation(comparison),
    )


def rank_correlation(comparison: Table) -> float | None:
    """Return Spearman's correlation of deviation and error; None if one of them is constant."""
    deviation, error = comparison["max_devi_f"], comparison["max_force_error"]
    if len(deviation) < 2 or not np.all(deviation > 0) or not np.ptp(deviation) * np.ptp(error):
        return None
    return calibrate(deviation, error).rank_correlation


def _deviations(frames: Frames, prediction: Prediction) -> Table:
    assert frames.forces is not None
    return Table(
        {
            "frame_id": np.array(frames.ids),
            "max_devi_f": ensemble_deviation(prediction.forces),
            "max_force_error": max_force_error(prediction.mean.forces[0], frames.forces),
        }
    )


def _energies(frames: Frames, prediction: Prediction) -> Table:
    assert frames.energies is not None
    return Table(
        {
            "reference": frames.energies / frames.n_atoms,
            "predicted": prediction.mean.energies[0] / frames.n_atoms,
        }
    )
