"""Settings of the loop."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt

from ionloop.codes.common.acceptance import AcceptanceLimits
from ionloop.codes.common.dynamics import AboveZero, DynamicsSettings, MolecularDynamics
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Stage
from ionloop.schemas.selection import TrustWindow

STAGES = (Stage(temperatures=[300.0, 600.0, 900.0], steps=2000),)

TRUST = TrustWindow(low=0.12, high=0.25)
"""Stages and trust levels where none are given: those of Huang et al. (2021) for LGPS."""


class ExistingData(Model):
    """Labelled data that are there already."""

    path: str = Field(description="file or folder, in any format that dpdata or ASE reads")
    format: str | None = Field(None, description="dpdata's name of the format; guessed if absent")
    type_map: list[str] | None = Field(
        None, description="symbols of the types, where the format has numbers only"
    )
    same_level: bool = Field(
        False, description="the data were calculated at the labeller's own level of theory"
    )
    level: str | None = Field(
        None, description="their level of theory in words, where it is another (allow_mixed)"
    )
    check_units: bool = Field(
        True,
        description="refuse numbers that look like Bohr, Hartree or kcal/mol instead of Å, eV and "
        "eV/Å",
    )

    def limits(self, limits: AcceptanceLimits) -> AcceptanceLimits:
        """Return the labeller's limits as far as they hold for these data.

        Energies of another level of theory have another zero.
        """
        return limits if self.same_level else limits.model_copy(update={"energy_window": None})


class InitialDynamics(DynamicsSettings):
    """Molecular dynamics by the labeller: one run per temperature and start structure."""

    temperatures: list[AboveZero] = Field(min_length=1, description="temperatures in K")

    @property
    def runs(self) -> list[MolecularDynamics]:
        """The runs of one start structure."""
        shared = self.model_dump(exclude={"temperatures"})
        return [MolecularDynamics(temperature=t, **shared) for t in self.temperatures]


class InitialData(Model):
    """Where the first training set comes from."""

    n_perturbed: NonNegativeInt = Field(
        60,
        le=1_000_000,
        description="perturbed frames per start structure that are labelled first",
    )
    displacement: float = Field(
        0.1, ge=0, description="largest displacement of an atom", json_schema_extra={"unit": "Å"}
    )
    strain: float = Field(0.03, ge=0, le=0.3, description="largest relative strain of the cell")
    relax: bool = Field(False, description="relax the start structures with the labeller first")
    aimd: list[InitialDynamics] = Field(
        default_factory=list,
        description="molecular dynamics by the labeller from the start structures, whose kept "
        "steps are labels",
    )
    data: list[ExistingData] = Field(default_factory=list, description="labelled data")
    allow_mixed: bool = Field(
        False,
        description="whether data of another level of theory than the labeller's may be trained "
        "on too; every report then says so",
    )
