"""POTCARs for tests: the header lines that pymatgen reads, made up, and no potential."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HEADER = """\
  PAW_PBE {symbol} 01Jan2026
   {valence:.1f}
 parameters from PSCTR are:
   VRHFIN ={element}: made up
   LEXCH  = PE
   EATOM  =   100.0000 eV,    7.3500 Ry

   TITEL  = PAW_PBE {symbol} 01Jan2026
   LULTRA =        F    use ultrasoft PP ?
   IUNSCR =        0    unscreen: 0-lin 1-nonlin 2-no
   RPACOR =     .000    partial core radius
   POMASS =   10.000; ZVAL   =   {valence:.3f}    mass and valenz
   RCORE  =    2.000    outmost cutoff radius
   RWIGS  =    2.000; RWIGS  =    1.000    wigner-seitz radius (au A)
   ENMAX  =  {enmax:.3f}; ENMIN  =  100.000 eV
   ICORE  =        2    local potential
   LCOR   =        T    correct aug charges
   LPAW   =        T    paw PP
   EAUG   =  300.000
   DEXC   =    0.000
   RMAX   =    2.000    core radius for proj-oper
   RAUG   =    1.300    factor for augmentation sphere
   RDEP   =    2.000    radius for radial grids
 END of PSCTR-controll parameters
 local part
  0.10000000E+01  0.20000000E+01  {last:.8E}
 End of Dataset
"""


def write_potcars(
    folder: Path, valences: Mapping[str, int], enmax: float = 250.0, last: float = 3.0
) -> Path:
    """Write POTCARs of the release PBE_54; return the folder for PMG_VASP_PSP_DIR.

    Parameters
    ----------
    folder
        Where to write.
    valences
        Valence electrons by POTCAR symbol, such as Li_sv.
    enmax
        ENMAX of all of them, in eV.
    last
        Last number of the potential: with another one it is another potential of the same title.
    """
    for symbol, valence in valences.items():
        path = folder / "POT_GGA_PAW_PBE_54" / symbol / "POTCAR"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = HEADER.format(
            symbol=symbol, element=symbol.split("_")[0], valence=valence, enmax=enmax, last=last
        )
        path.write_text(text)
    return folder
