"""Selection: a thin job over `ionloop.selection`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jobflow import Job

from ionloop.jobs.documents import stamp, stored_job
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference, SelectMaker
from ionloop.schemas.exploration import ExplorationDoc
from ionloop.schemas.label import Labels
from ionloop.schemas.selection import SelectionDoc
from ionloop.selection import PhysicalLimits, SelectSettings, select


@dataclass
class WindowSelectMaker(SelectMaker):
    """Picks candidates of the trust window; duplicates are set aside and replaced by others.

    Parameters
    ----------
    settings
        How many, in which order, how different.
    limits
        Limits beyond which a geometry is not labelled; those of the exploration.

    Examples
    --------
    >>> from ionloop.selection import SelectSettings
    >>> maker = WindowSelectMaker(settings=SelectSettings(max_labels=50, strategy="farthest"))
    >>> maker.max_labels
    50
    >>> maker.at_random().settings.strategy
    'random'
    """

    settings: SelectSettings = field(default_factory=SelectSettings)
    limits: PhysicalLimits = field(default_factory=PhysicalLimits)

    @property
    def max_labels(self) -> int:
        """Labels per turn, where a stage has no number of its own."""
        return self.settings.max_labels

    def at_random(self) -> WindowSelectMaker:
        """Return a Maker that picks at random, whatever the strategy of the loop."""
        return replace(self, settings=self.settings.model_copy(update={"strategy": "random"}))

    def make(
        self, exploration: Reference, dataset: Reference, max_labels: int, seed: int = 0
    ) -> Job:
        """Pick at most `max_labels` from an `ExplorationDoc`; the output is a `SelectionDoc`.

        Parameters
        ----------
        exploration, dataset, max_labels, seed
            As for `SelectMaker.make`.
        """
        job = select_frames(self, exploration, dataset, max_labels, seed)
        return assign(job, Role.SELECT, "select", bookkeeping=True)


@stored_job(SelectionDoc)
def select_frames(
    maker: WindowSelectMaker,
    exploration: ExplorationDoc,
    dataset: list[Labels],
    max_labels: int,
    seed: int,
) -> SelectionDoc:
    """Pick frames of an exploration, and give every other one its reason.

    Parameters
    ----------
    maker
        How to pick.
    exploration
        Where to pick from.
    dataset
        What is labelled already.
    max_labels
        Labels of this turn at most.
    seed
        Seed of the random order.
    """
    return select(
        exploration.deviations,
        exploration.candidates,
        [frames for labels in dataset for frames in labels.frames],
        exploration.trust,
        maker.settings.model_copy(update={"max_labels": max_labels}),
        seed=seed,
        limits=maker.limits,
    ).model_copy(update=stamp(maker))
