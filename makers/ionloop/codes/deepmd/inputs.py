"""What DeePMD-kit reads: `input.json`.

The energy bias per element is left to DeePMD-kit, which since 3.2 solves a least-squares problem
over frames and compositions and takes the solution of minimum norm where the compositions do not
determine it. Its default of 10 frames a composition is raised to `STATISTICS`, because the mean
energy of 10 thermal frames is off by tenths of an eV.
"""

from __future__ import annotations

import math
from typing import Any, get_args

from ionloop.codes.deepmd.data import Systems, auto_prob
from ionloop.codes.deepmd.network import valid_seed, with_seeds
from ionloop.codes.deepmd.schedule import Schedule
from ionloop.codes.deepmd.settings import DeepmdSettings, LossTerm

SAVES = 20  # checkpoints of a training, from which it continues if its worker is lost

SHORTEST_SAVE = 1000  # steps between checkpoints: fewer take less time than a checkpoint saves


def input_script(
    settings: DeepmdSettings,
    model: dict[str, Any],
    systems: Systems,
    *,
    seed: int,
    warm: bool = False,
) -> dict[str, Any]:
    """Build the content of `input.json`.

    Parameters
    ----------
    settings
        How to train.
    model
        The `model` section, from `model_section` or `continued_model`.
    systems
        What to train on.
    seed
        Seed of the nets and of the order of the frames.
    warm
        Whether the training continues from another one.
    """
    steps = settings.training_steps(warm)
    display = min(settings.disp_every, steps)
    data: dict[str, dict[str, Any]] = {
        "training_data": {"systems": list(systems.training), "batch_size": settings.batch_size}
    }
    if systems.blocks:
        data["training_data"]["auto_prob"] = auto_prob(systems.blocks)
    if systems.validation:
        held_back = {"systems": list(systems.validation), "batch_size": 1, "numb_btch": 4}
        data["validation_data"] = held_back
    return {
        "model": with_seeds(model, seed),
        "learning_rate": _learning_rate(settings.schedule(warm)),
        "loss": _loss(settings, systems.has_virials, warm),
        "training": {
            **data,
            "numb_steps": steps,
            "seed": valid_seed(seed),
            "disp_file": "lcurve.out",
            "disp_freq": display,
            "save_freq": display * math.ceil(max(steps / SAVES, SHORTEST_SAVE) / display),
            "max_ckpt_keep": 2,
        },
    }


def _learning_rate(rates: Schedule) -> dict[str, Any]:
    ends = {"start_lr": rates.start, "stop_lr": rates.stop}
    if rates.decay == "cosine":
        return {"type": "cosine", **ends}
    return {"type": "exp", **ends, "decay_steps": max(1, rates.steps // 200)}


def _loss(settings: DeepmdSettings, virials: bool, warm: bool) -> dict[str, Any]:
    prefactors = {term[0]: settings.prefactors(term, warm) for term in get_args(LossTerm)}
    if not virials:
        prefactors["v"] = (0.0, 0.0)
    loss: dict[str, Any] = {"type": "ener"}
    for letter, (start, limit) in prefactors.items():
        loss |= {f"start_pref_{letter}": start, f"limit_pref_{letter}": limit}
    return loss
