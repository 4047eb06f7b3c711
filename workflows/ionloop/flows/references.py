"""References to what jobs gave, kept apart from the values that collecting jobs see with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from jobflow.core.reference import ResolvedReference
from monty.json import MSONable

from ionloop.jobs.roles import Reference


@dataclass(frozen=True)
class References(MSONable):
    """References to what steps gave, by name.

    In a job that collects them, every reference comes with its value.
    """

    @classmethod
    def of(cls, given: Self | dict[str, Reference]) -> Self:
        """Return references that may come as a dictionary, as in jobs of version 0.1."""
        return cls(**given) if isinstance(given, dict) else given

    @property
    def by_name(self) -> dict[str, Any]:
        """The references that are there."""
        return {name: given for name, given in vars(self).items() if given is not None}

    @property
    def values(self) -> dict[str, Any]:
        """What the references of a collecting job refer to."""
        return {name: reference.value for name, reference in self.by_name.items()}

    def without_values(self) -> Self:
        """Return the references alone, to pass them on."""
        return replace(self, **references(self.by_name))


def references(argument: Any) -> Any:
    """Return references where values were resolved, so that nothing heavy is stored again."""
    if isinstance(argument, dict):
        return {key: references(value) for key, value in argument.items()}
    if isinstance(argument, list):
        return [references(value) for value in argument]
    return argument.reference if isinstance(argument, ResolvedReference) else argument
