"""Errors that several codes raise."""

from __future__ import annotations

from ionloop.schemas.errors import IonloopError


class OtherLevelError(IonloopError, RuntimeError):
    """What runs here is not what the level of theory says: another version, another potential.

    No label comes of it. It is the place that is wrong, not the frame: when that is mended, the
    frame is calculated again.
    """
