"""Which trained network another training can start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ionloop.codes.deepmd import network
from ionloop.codes.deepmd.checkpoint import Checkpoint
from ionloop.codes.deepmd.data import Systems
from ionloop.codes.deepmd.inputs import input_script
from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames


class OtherNetworkError(IonloopError):
    """A training cannot start from a checkpoint; the message ends a sentence that says so."""


def continued_model(
    settings: DeepmdSettings, frames: Sequence[Frames], type_map: Sequence[str], earlier: Checkpoint
) -> dict[str, Any]:
    """Return an earlier `model` section if a training can continue from it.

    Parameters
    ----------
    settings
        How to train.
    frames
        What to train on.
    type_map
        Chemical symbols in the order of the types.
    earlier
        The checkpoint.

    Raises
    ------
    OtherNetworkError
        If the settings, the backend or the type map changed, or if an atom of the data has more
        neighbours now than the earlier `sel` has room for.
    """
    model = network.model_template(settings, type_map)
    pairs = zip(network.descriptors(model), network.descriptors(earlier.model), strict=False)
    for mine, other in pairs:
        if network.is_open(mine) and "sel" in other:
            counts = network.count_neighbours(frames, mine["rcut"], type_map)
            if not network.has_room(other, counts):
                raise OtherNetworkError(
                    "an atom has more neighbours now than it has room for (sel)"
                )
            mine["sel"] = other["sel"]
    backend = [] if settings.backend == earlier.backend else ["backend"]
    if changed := [*backend, *differing(model, earlier.model)]:
        raise OtherNetworkError(f"its network is another one ({', '.join(changed)})")
    return earlier.model


def refusal(settings: DeepmdSettings) -> str | None:
    """Return why DeePMD-kit refuses a `model` dictionary; None if it accepts it.

    The check is its own, and needs the import of its Python package.
    """
    if isinstance(settings.model, str):
        return None
    from dargs.dargs import ArgumentError
    from deepmd.utils.argcheck import normalize

    try:
        model = network.model_template(settings, ["H"])
        for descriptor in network.open_descriptors(model):
            descriptor["sel"] = 4 if network.is_mixed(descriptor) else [4]
        normalize(input_script(settings, model, Systems(["training"]), seed=1))
    except (ArgumentError, AttributeError, TypeError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def other_network(settings: DeepmdSettings, other: DeepmdSettings) -> list[str]:
    """Return the keys in which two networks differ, so that neither can start from the other.

    Parameters
    ----------
    settings, other
        The settings of the two.
    """
    backend = [] if settings.backend == other.backend else ["backend"]
    one, another = (network.model_template(each, []) for each in (settings, other))
    return [*backend, *differing(one, another)]


def differing(model: Any, other: Any, place: str = "") -> list[str]:
    """Return the places in which two `model` sections differ, named as in the run file.

    Parameters
    ----------
    model, other
        The sections, or parts of them.
    place
        Where these parts are in the sections.
    """
    if not (isinstance(model, dict) and isinstance(other, dict)):
        return [] if model == other else [network.RUN_FILE_KEYS.get(place, place)]
    keys = sorted({*model, *other})
    found = [
        differing(model.get(key), other.get(key), f"{place}.{key}".lstrip(".")) for key in keys
    ]
    return list(dict.fromkeys(key for keys in found for key in keys))
