"""Files of a VASP run, as text: the parts that parsers look for, in VASP's own layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

E_WO_ENTRP, E_0 = 0.02, 0.01  # eV above the free energy
STRESS_PARTS = "Alpha-Z Ewald Hartree E(xc) Local n-local augment Kinetic Fock"
PARAMETERS = (
    *("PREC", "ENMAX", "EDIFF", "NELM", "NELMIN", "ISMEAR", "SIGMA", "ISPIN", "NSW", "IBRION"),
    *("ISIF", "POTIM", "TEBEG", "EDIFFG", "ISYM", "LORBIT", "LREAL", "LASPH", "GGA", "NBANDS"),
    *("NELECT", "LNONCOLLINEAR", "LSORBIT", "LMETAGGA", "LHFCALC", "ISTART", "ICHARG", "LDIPOL"),
    *("KSPACING", "KGAMMA"),
)


@dataclass(frozen=True)
class Type:
    """One species: TITEL, chemical symbol, atoms, valence electrons."""

    title: str
    element: str
    count: int
    valence: float


@dataclass(frozen=True)
class Run:
    """All that a run is: tags given and in effect, k-points, species, start, ionic steps."""

    given: dict[str, Any]
    incar: dict[str, Any]
    mesh: tuple[int, ...]
    types: list[Type]
    atoms: Atoms
    steps: list[Any]
    n_electronic: int

    @property
    def n_electrons(self) -> float:
        """Valence electrons in the cell."""
        return sum(kind.valence * kind.count for kind in self.types)

    @property
    def n_bands(self) -> int:
        """Bands: those that are filled, and four more."""
        return int(np.ceil(self.n_electrons / 2)) + 4

    @property
    def parameters(self) -> dict[str, Any]:
        """Tags as vasprun.xml lists them, defaults included."""
        values = {
            **dict.fromkeys(("LNONCOLLINEAR", "LSORBIT", "LMETAGGA", "LHFCALC", "LDIPOL"), False),
            "ISTART": 0,
            "ICHARG": 2,
            "NBANDS": self.n_bands,
            "NELECT": self.n_electrons,
            **self.incar,
            "ENMAX": self.incar["ENCUT"],
        }
        return {tag: values[tag] for tag in PARAMETERS}


def oszicar(run: Run) -> str:
    """Return OSZICAR."""
    lines = ["       N       E                     dE             d eps       ncg     rms"]
    for number, step in enumerate(run.steps, 1):
        lines += [
            f"DAV: {i:3d}    {step.energy + 10.0 ** (1 - i):18.12E}   {-(10.0**-i):12.5E}   "
            f"{-(10.0**-i):12.5E}   {100:3d}   {10.0**-i:9.3E}"
            for i in range(1, run.n_electronic + 1)
        ]
        lines.append(
            f"{number:4d} F= {step.energy:14.8E} E0= {step.energy + E_0:14.8E}  d E ={-E_0:13.6E}"
        )
    return "\n".join(lines) + "\n"


def contcar(run: Run) -> str:
    """Return CONTCAR."""
    last = run.steps[-1]
    fractional = last.positions @ np.linalg.inv(last.cell)
    return "\n".join(
        [
            "stand-in",
            "   1.00000000000000",
            *(" ".join(f"{x:22.16f}" for x in row) for row in last.cell),
            "   ".join(kind.element for kind in run.types),
            "   ".join(str(kind.count) for kind in run.types),
            "Direct",
            *(" ".join(f"{x:20.16f}" for x in row) for row in fractional),
            "",
        ]
    )


def outcar(run: Run) -> str:
    """Return OUTCAR."""
    blocks = [_outcar_head(run)]
    for number, step in enumerate(run.steps, 1):
        blocks += [_iteration(run, number, i) for i in range(1, run.n_electronic + 1)]
        blocks.append(_outcar_step(run, step))
    return "\n".join([*blocks, _timing()])


def _outcar_head(run: Run) -> str:
    incar = run.incar
    titles = [f" POTCAR:    {kind.title}" for kind in run.types]
    return "\n".join(
        [
            " vasp.6.4.3-standin (build for tests) complex",
            " executed on             LinuxIFC date 2026.01.01  12:00:00",
            " running    1 mpi-ranks, with    1 threads/rank, on    1 nodes",
            " INCAR:",
            *titles,
            *titles,
            *(f"   VRHFIN ={kind.element}: stand-in" for kind in run.types),
            *(f"   TITEL  = {kind.title}" for kind in run.types),
            " POSCAR: stand-in",
            " Dimension of arrays:",
            f"   k-points           NKPTS = {np.prod(run.mesh):6d}   k-points in BZ     NKDIM = "
            f"{np.prod(run.mesh):6d}   number of bands    NBANDS= {run.n_bands:6d}",
            f"   number of dos      NEDOS =    301   number of ions    NIONS ={len(run.atoms):7d}",
            "   total plane-waves  NPLWV =  10000",
            "   ions per type =          " + " ".join(f"{kind.count:7d}" for kind in run.types),
            "   NWRITE =      2    write-flag & timer",
            f"   ISPIN  = {incar['ISPIN']:6d}    spin polarized calculation?",
            f"   ENCUT  = {incar['ENCUT']:6.1f} eV",
            f"   NELM   = {incar['NELM']:6d};   NELMIN= {incar['NELMIN']:2d}; NELMDL= -5",
            f"   EDIFF  = {incar['EDIFF']:.1E}   stopping-criterion for ELM",
            f"   IBRION = {incar['IBRION']:6d}    ionic relax: 0-MD 1-quasi-New 2-CG",
            "",
        ]
    )


def _iteration(run: Run, ionic: int, electronic: int) -> str:
    return "\n".join(
        [
            f"----------------------------------------- Iteration {ionic:4d}({electronic:4d})  "
            "---------------------------------------",
            f" number of electron {run.n_electrons:15.7f} magnetization",
            f" augmentation part  {run.n_electrons / 10:15.7f} magnetization",
            "",
        ]
    )


def _outcar_step(run: Run, step: Any) -> str:
    s = step.stress
    voigt = (s[0, 0], s[1, 1], s[2, 2], s[0, 1], s[1, 2], s[2, 0])
    volume = abs(np.linalg.det(step.cell))
    reciprocal = np.linalg.inv(step.cell).T
    unconverged = run.n_electronic >= run.incar["NELM"]
    return "\n".join(
        [
            f" E-fermi :  {1.5:8.4f}     XC(G=0):  -1.0024     alpha+bet : -0.5589",
            "",
            *(
                []
                if unconverged
                else [
                    "------------------------ aborting loop because EDIFF is reached "
                    "----------------------------------------",
                ]
            ),
            "  FORCE on cell =-STRESS in cart. coord.  units (eV):",
            "  Direction    XX          YY          ZZ          XY          YZ          ZX",
            "  " + "-" * 86,
            *(f"  {part:8s}" + 6 * "     0.00000" for part in STRESS_PARTS.split()),
            "  " + "-" * 85,
            "  Total   " + "".join(f"{x * volume / 1602.176634:12.5f}" for x in voigt),
            "  in kB   " + "".join(f"{x:12.5f}" for x in voigt),
            f"  external pressure = {np.trace(s) / 3:11.2f} kB  Pullay stress =        0.00 kB",
            "",
            " VOLUME and BASIS-vectors are now :",
            " " + "-" * 77,
            f"  energy-cutoff  : {run.incar['ENCUT']:12.2f}",
            f"  volume of cell : {volume:12.2f}",
            "      direct lattice vectors                 reciprocal lattice vectors",
            *(
                " " + "".join(f"{x:15.9f}" for x in (*a, *b))
                for a, b in zip(step.cell, reciprocal, strict=True)
            ),
            "",
            " POSITION                                       TOTAL-FORCE (eV/Angst)",
            " " + "-" * 83,
            *(
                " " + "".join(f"{x:13.5f}" for x in r) + "".join(f"{x:14.6f}" for x in f)
                for r, f in zip(step.positions, step.forces, strict=True)
            ),
            " " + "-" * 83,
            "    total drift:                                0.000000      0.000000      0.000000",
            "",
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
            "  ---------------------------------------------------",
            f"  free  energy   TOTEN  = {step.energy:20.8f} eV",
            "",
            f"  energy  without entropy= {step.energy + E_WO_ENTRP:20.8f}  energy(sigma->0) = "
            f"{step.energy + E_0:18.8f}",
            "",
        ]
    )


def _timing() -> str:
    return "\n".join(
        [
            " General timing and accounting informations for this job:",
            " ========================================================",
            "                  Total CPU time used (sec):        1.000",
            "                            User time (sec):        1.000",
            "                          System time (sec):        0.000",
            "                         Elapsed time (sec):        1.000",
            "                   Maximum memory used (kb):        1000.",
            "                   Average memory used (kb):          N/A",
            "",
        ]
    )


def vasprun(run: Run) -> str:
    """Return vasprun.xml."""
    return "\n".join(
        [
            '<?xml version="1.0" encoding="ISO-8859-1"?>',
            "<modeling>",
            " <generator>",
            '  <i name="program" type="string">vasp </i>',
            '  <i name="version" type="string">6.4.3  </i>',
            '  <i name="subversion" type="string">stand-in for tests </i>',
            " </generator>",
            " <incar>",
            *(_tag(name, value) for name, value in run.given.items()),
            " </incar>",
            _kpoints(run),
            " <parameters>",
            *(_tag(name, value) for name, value in run.parameters.items()),
            " </parameters>",
            _atominfo(run),
            _structure(run.atoms.positions, run.atoms.cell.array, "initialpos"),
            *(_calculation(run, step) for step in run.steps),
            _structure(run.steps[-1].positions, run.steps[-1].cell, "finalpos"),
            "</modeling>",
            "",
        ]
    )


def _tag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f'  <i type="logical" name="{name}"> {"T" if value else "F"}  </i>'
    if isinstance(value, int):
        return f'  <i type="int" name="{name}"> {value:6d}</i>'
    if isinstance(value, float):
        return f'  <i name="{name}"> {value:16.8f}</i>'
    return f'  <i type="string" name="{name}">{value}</i>'


def _kpoints(run: Run) -> str:
    divisions = np.array(run.mesh)
    points = np.stack(np.meshgrid(*map(np.arange, divisions), indexing="ij"), -1).reshape(-1, 3)
    return "\n".join(
        [
            " <kpoints>",
            '  <generation param="Gamma">',
            f'   <v type="int" name="divisions"> {" ".join(map(str, divisions))} </v>',
            '   <v name="usershift"> 0.0 0.0 0.0 </v>',
            "  </generation>",
            _varray("kpointlist", points / divisions),
            _varray("weights", np.full((len(points), 1), 1 / len(points))),
            " </kpoints>",
        ]
    )


def _atominfo(run: Run) -> str:
    atoms = [
        f"<rc><c>{kind.element:2s}</c><c>{number:4d}</c></rc>"
        for number, kind in enumerate(run.types, 1)
        for _ in range(kind.count)
    ]
    types = [
        f"<rc><c>{kind.count:4d}</c><c>{kind.element:2s}</c>"
        f"<c>{atomic_masses[atomic_numbers[kind.element]]:16.8f}</c>"
        f"<c>{kind.valence:16.8f}</c><c>  {kind.title:38s}</c></rc>"
        for kind in run.types
    ]
    fields = ["<field>mass</field>", "<field>valence</field>"]
    return "\n".join(
        [
            " <atominfo>",
            f"  <atoms> {len(run.atoms)} </atoms>",
            f"  <types> {len(run.types)} </types>",
            '  <array name="atoms" >',
            '   <field type="string">element</field><field type="int">atomtype</field>',
            *["   <set>", *atoms, "   </set>", "  </array>"],
            '  <array name="atomtypes" >',
            '   <field type="int">atomspertype</field><field type="string">element</field>',
            *fields,
            '   <field type="string">pseudopotential</field>',
            *["   <set>", *types, "   </set>", "  </array>", " </atominfo>"],
        ]
    )


def _structure(positions: np.ndarray, cell: np.ndarray, name: str = "") -> str:
    attribute = f' name="{name}"' if name else ""
    return "\n".join(
        [
            f" <structure{attribute} >",
            "  <crystal>",
            _varray("basis", cell),
            f'   <i name="volume"> {abs(np.linalg.det(cell)):16.8f} </i>',
            _varray("rec_basis", np.linalg.inv(cell).T),
            "  </crystal>",
            _varray("positions", positions @ np.linalg.inv(cell)),
            " </structure>",
        ]
    )


def _varray(name: str, rows: np.ndarray) -> str:
    body = "\n".join("   <v>" + "".join(f"{x:17.8f}" for x in row) + " </v>" for row in rows)
    return f'  <varray name="{name}" >\n{body}\n  </varray>'


def _energy(energy: float) -> str:
    return (
        f'   <energy><i name="e_fr_energy">{energy:16.8f} </i>'
        f'<i name="e_wo_entrp">{energy + E_WO_ENTRP:16.8f} </i>'
        f'<i name="e_0_energy">{energy + E_0:16.8f} </i></energy>'
    )


def _calculation(run: Run, step: Any) -> str:
    electronic = [
        f"  <scstep>\n{_energy(step.energy + 10.0 ** (1 - i))}\n  </scstep>"
        for i in range(1, run.n_electronic)
    ]
    return "\n".join(
        [
            " <calculation>",
            *electronic,
            f"  <scstep>\n{_energy(step.energy)}\n  </scstep>",
            _structure(step.positions, step.cell),
            _varray("forces", step.forces),
            _varray("stress", step.stress),
            _energy(step.energy),
            _eigenvalues(run),
            _dos(run),
            " </calculation>",
        ]
    )


def _dos(run: Run) -> str:
    rows = [f"<r> {e:10.4f} {run.n_electrons:10.4f} {run.n_electrons:10.4f} </r>" for e in (-9, 9)]
    return "\n".join(
        [
            '  <dos>\n   <i name="efermi">     -0.50000000 </i>\n   <total>\n    <array>',
            '     <set>\n      <set comment="spin 1">',
            *rows,
            "      </set>\n     </set>\n    </array>\n   </total>\n  </dos>",
        ]
    )


def _eigenvalues(run: Run) -> str:
    filled = int(np.ceil(run.n_electrons / 2))
    bands = [
        f"      <r> {band - filled:10.4f} {float(band < filled):9.4f} </r>"
        for band in range(run.n_bands)
    ]
    kpoints = [
        line
        for number in range(int(np.prod(run.mesh)))
        for line in (f'     <set comment="kpoint {number + 1}">', *bands, "     </set>")
    ]
    return "\n".join(
        [
            "  <eigenvalues>",
            "   <array>",
            '    <set>\n    <set comment="spin 1">',
            *kpoints,
            "    </set>\n    </set>",
            "   </array>",
            "  </eigenvalues>",
        ]
    )
