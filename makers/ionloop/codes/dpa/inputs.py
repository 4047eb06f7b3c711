"""What DeePMD-kit reads when it fine-tunes: `input.json`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ionloop.codes.deepmd.data import Systems
from ionloop.codes.deepmd.network import STATISTICS, descriptors, valid_seed

if TYPE_CHECKING:
    from ionloop.codes.dpa.settings import DpaSettings

HUBER_DELTA = 0.01
"""Deviation in eV/atom and eV/Å from which on the loss grows linearly."""

LARGEST_GRADIENT = 10.0
"""Norm at which gradients are clipped."""

LAST_RATE = 1e-3
"""Learning rate of the last step, as a fraction of the largest: DeePMD-kit refuses none at all."""

VALIDATION = "val.log"
"""File to which DeePMD-kit writes its comparisons with the held-back frames."""


def model_section(params: dict[str, Any], settings: DpaSettings, seed: int) -> dict[str, Any]:
    """Return the `model` section of the base, as it is trained.

    Parameters
    ----------
    params
        That of the base, with its whole type map.
    settings
        How to train.
    seed
        Seed of a fitting net that begins anew.
    """
    model = copy.deepcopy(params)
    model["fitting_net"]["seed"] = valid_seed(seed)
    model["data_stat_nbatch"] = STATISTICS
    model.pop("lora", None)
    if settings.lora:
        model["lora"] = {"rank": settings.lora}
    for descriptor in descriptors(model):
        descriptor["trainable"] = settings.freeze != "descriptor"
    return model


def input_script(
    settings: DpaSettings, model: dict[str, Any], systems: Systems, *, steps: int, warm: bool
) -> dict[str, Any]:
    """Build the content of `input.json`.

    Parameters
    ----------
    settings
        How to train.
    model
        The `model` section.
    systems
        What to train on.
    steps
        Steps of the training.
    warm
        Whether it starts from the last turn's model.
    """
    rate = settings.warm_learning_rate if warm else settings.learning_rate
    every = min(settings.check_every, steps)
    data: dict[str, Any] = {
        "training_data": {"systems": list(systems.training), "batch_size": settings.batch_size}
    }
    script: dict[str, Any] = {
        "model": model,
        "learning_rate": {
            "type": "cosine",
            "start_lr": rate,
            "stop_lr": LAST_RATE * rate,
            "warmup_steps": min(settings.rise_steps, steps // 4),
        },
        "loss": _loss(settings, systems.has_virials),
        "training": {
            **data,
            "numb_steps": steps,
            "seed": model["fitting_net"]["seed"],
            "gradient_max_norm": LARGEST_GRADIENT,
            "disp_file": "lcurve.out",
            "disp_freq": every,
            "save_freq": every,
            "max_ckpt_keep": 2,
        },
    }
    if systems.validation:
        held_back = {"systems": list(systems.validation), "batch_size": 1}
        script["training"]["validation_data"] = held_back
        script["validating"] = {
            "full_validation": True,
            "validation_freq": every,
            "validation_metric": "F:RMSE",
            "full_val_file": VALIDATION,
            "full_val_start": 0,
        }
    return script


def _loss(settings: DpaSettings, virials: bool) -> dict[str, Any]:
    weights = {
        "e": settings.energy_weight,
        "f": settings.force_weight,
        "v": settings.stress_weight if virials else 0.0,
    }
    loss: dict[str, Any] = {"type": "ener", "use_huber": True, "huber_delta": HUBER_DELTA}
    for letter, weight in weights.items():
        loss |= {f"start_pref_{letter}": weight, f"limit_pref_{letter}": weight}
    return loss
