"""Numbers with a unit: the annotations that put units into every JSON schema.

The units are those of the field: Å, eV, eV/Å, K, bar, fs, and seconds for time spent computing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field


def _unit(symbol: str) -> object:
    return Field(json_schema_extra={"unit": symbol})


Energy = Annotated[float, _unit("eV")]
EnergyPerAtom = Annotated[float, _unit("eV/atom")]
Force = Annotated[float, _unit("eV/Å")]
Length = Annotated[float, _unit("Å")]
Temperature = Annotated[float, _unit("K")]
Pressure = Annotated[float, _unit("bar")]
Femtoseconds = Annotated[float, _unit("fs")]
Seconds = Annotated[float, _unit("s")]
CoreHours = Annotated[float, _unit("core h")]
