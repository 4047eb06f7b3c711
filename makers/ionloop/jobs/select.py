"""Selection: a thin job over `ionloop.selection`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from jobflow import Job
from pydantic import Field, NonNegativeFloat, PositiveInt

from ionloop.jobs.decorators import stored_job
from ionloop.jobs.placement import assign
from ionloop.jobs.provenance import stamp
from ionloop.jobs.roles import Reference, SelectMaker
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import ExplorationDoc
from ionloop.schemas.label import Labels
from ionloop.schemas.selection import SelectionDoc
from ionloop.selection import PhysicalLimits, select
from ionloop.selection.fingerprint import TOLERANCE


class SelectSettings(Model):
    """How candidates are picked."""

    max_labels: PositiveInt = Field(300, description="labels per turn at most")
    strategy: Literal["random", "farthest", "highest"] = Field(
        "random",
        description="order in which candidates are taken: seeded random, farthest-point on a "
        "structural fingerprint, or largest deviation first",
    )
    tolerance: NonNegativeFloat = Field(
        TOLERANCE,
        description="fingerprint distance up to which two frames count as duplicates; rattling "
        "every atom of LGPS for some 6 fs at 300 K reaches the default",
        json_schema_extra={"unit": "Å"},
    )


@dataclass
class WindowSelectMaker(SelectMaker):
    """Picks candidates of the trust window, without duplicates, with replacement of rejects.

    Parameters
    ----------
    settings
        How many, in which order, how different.
    limits
        Geometries that are not labelled; the exploration's.
    """

    name: str = "select"
    settings: SelectSettings = field(default_factory=SelectSettings)
    limits: PhysicalLimits = field(default_factory=PhysicalLimits)

    @property
    def max_labels(self) -> int:
        """Labels per turn, where a stage has no number of its own."""
        return self.settings.max_labels

    def at_random(self) -> WindowSelectMaker:
        """Return the Maker that picks at random, whatever the strategy of the loop."""
        return replace(self, settings=self.settings.model_copy(update={"strategy": "random"}))

    def make(
        self, exploration: Reference, dataset: Reference, max_labels: int, seed: int = 0
    ) -> Job:
        """Pick at most `max_labels` from an `ExplorationDoc`; the output is a `SelectionDoc`."""
        return assign(
            select_frames(self, exploration, dataset, max_labels, seed),
            "select",
            "select",
            light=True,
        )


@stored_job(SelectionDoc)
def select_frames(
    maker: WindowSelectMaker,
    exploration: ExplorationDoc,
    dataset: list[Labels],
    max_labels: int,
    seed: int,
) -> SelectionDoc:
    """Judge, pick, and give every frame its reason."""
    settings = maker.settings
    selection = select(
        exploration.deviations,
        exploration.candidates,
        [frames for labels in dataset for frames in labels.frames],
        exploration.trust,
        max_labels=max_labels,
        seed=seed,
        strategy=settings.strategy,
        tolerance=settings.tolerance,
        limits=maker.limits,
    )
    return SelectionDoc(**stamp(maker), **vars(selection))
