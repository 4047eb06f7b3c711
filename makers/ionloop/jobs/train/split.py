"""Which frames are trained on, and which are held back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ionloop.schemas.dataset import held_back
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate, divide
from ionloop.schemas.label import Labels, at_todays_levels


def groups(seeds: Sequence[int], size: int) -> list[dict[int, int]]:
    """Divide the models of an ensemble into groups.

    Parameters
    ----------
    seeds
        Seeds of the models.
    size
        Models of a group at most.

    Returns
    -------
    list of dict
        For each group its seeds by the number of the model, from 0.
    """
    numbered = list(enumerate(seeds))
    return [dict(numbered[start : start + size]) for start in range(0, len(numbered), size)]


def split(
    dataset: Sequence[Labels], fraction: float, allow_mixed: bool = False
) -> tuple[list[Frames], list[Frames]]:
    """Split the frames of a data set into those trained on and those held back, group by group.

    Of what a teacher labelled nothing is held back, since nothing is judged by it; what has its
    origin in common with held-back labels is left out.

    Parameters
    ----------
    dataset
        Labels.
    fraction
        Fraction of the frames to hold back.
    allow_mixed
        Whether frames of several levels of theory may come together; then the returned frames do
        not name their level.

    Raises
    ------
    InputError
        If every frame is held back.
    """
    bought, taught = (
        [
            replace(part, level=None) if allow_mixed else part
            for labels in at_todays_levels(dataset)
            for part in labels.frames
            if labels.level.is_teacher is by_teacher
        ]
        for by_teacher in (False, True)
    )
    held = held_back(bought, fraction)
    validation, training = divide(bought, held)
    training = concatenate([*training, *_of_other_origin(taught, validation)])
    if held and not training:
        raise InputError(
            f"all {len(held)} frames are held back from training, since they come from few "
            "trajectories or files and are held back by the whole of one; set "
            "train.validation_fraction to 0, or add initial frames of another kind"
        )
    return training, validation


def _of_other_origin(frames: Sequence[Frames], held: Sequence[Frames]) -> Iterator[Frames]:
    """Yield the frames without those of a group that is held back."""
    groups = {origin for part in held for origin in (*part.origins, *part.ids)}
    for part in frames:
        names = zip(part.ids, part.origins, strict=True)
        yield part[[groups.isdisjoint(each) for each in names]]
