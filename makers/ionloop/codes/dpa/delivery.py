"""From the last checkpoint of a training to the model that is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ionloop.codes.dpa.pretrained import EXTRA, Pretrained


def merged(trained: Pretrained) -> Pretrained:
    """Return a model with low-rank changes (LoRA) added to the weights that they change.

    Parameters
    ----------
    trained
        What was trained.
    """
    return sliced(trained, trained.type_map)


def sliced(trained: Pretrained, type_map: Sequence[str]) -> Pretrained:
    """Return a model that knows fewer elements, and is otherwise the same; DPA-4 keeps all.

    Parameters
    ----------
    trained
        What was trained, with all elements of its base.
    type_map
        Chemical symbols to keep, in the order that their types will have.
    """
    from deepmd.pt.model.model import get_model
    from deepmd.pt.train.wrapper import ModelWrapper

    params = {key: value for key, value in trained.params.items() if key != "lora"}
    wrapper = ModelWrapper(get_model(params))
    # DeePMD-kit adds low-rank changes to the weights when it reads them into a model without.
    wrapper.load_state_dict(trained.content()["model"])
    if trained.is_dpa4:  # DeePMD-kit cannot take elements from it
        type_map = trained.type_map
    if list(type_map) != trained.type_map:
        wrapper.model["Default"].change_type_map(list(type_map))
    state = {key: value for key, value in wrapper.state_dict().items() if key != EXTRA}
    return replace(trained, params=params | {"type_map": list(type_map)}, state=state)


def best_checkpoint(folder: Path, latest: Path) -> Path:
    """Return the checkpoint that was best on the held-back frames, or the latest without any.

    Parameters
    ----------
    folder
        Folder of the training.
    latest
        Its latest checkpoint.
    """
    found = sorted(folder.glob("best.ckpt-*.pt"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else latest
