"""VASP, through atomate2 and custodian."""

from ionloop.codes.vasp.settings import VaspSettings

__all__ = ["VaspSettings"]
