"""Settings of labels that are calculated elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.schemas.document import Model
from ionloop.schemas.label import LevelOfTheory


class ExternalSettings(Model):
    """Labels that are calculated outside of ionloop and imported."""

    level: Annotated[str, Field(min_length=1)]
    """the level of theory in words, such as 'VASP 6.4, PBE, 500 eV, Γ'; another text is another
    level"""
    folder: Path = Path("to_label")
    """folder into which the frames to label are written"""
    limits: AcceptanceLimits = AcceptanceLimits()
    """limits beyond which a label is rejected; position_tolerance also decides whether a
    calculation is of a frame"""


def level_of_theory(settings: ExternalSettings) -> LevelOfTheory:
    """Return the level of theory, which is only the description in the settings."""
    return LevelOfTheory(code="external", settings={"level": settings.level})
