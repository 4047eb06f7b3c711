"""Stands in for `gpaw python`: answers request.json as gpaw_script.py would, from EMT.

Arguments: misdeed (none, crash, hang, unconverged, ranks, silent), GPAW's version, the script.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

KNOWN = {"Au", "Cu"}


def calculate(request: dict) -> dict:
    from ase import Atoms
    from ase.calculators.emt import EMT

    keys = {"symbols", "positions", "cell"}
    atoms = Atoms(**{k: v for k, v in request["atoms"].items() if k in keys}, pbc=True)
    atoms.calc = EMT()
    return {
        "converged": True,
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces().tolist(),
        "stress": atoms.get_stress(voigt=False).tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.tolist(),
    }


def main(misdeed: str, version: str, script: str) -> None:
    assert Path(script).is_file()
    request = json.loads(Path("request.json").read_text())
    if misdeed == "crash":
        sys.exit("MPI_ABORT was invoked: a wave function was lost")
    if misdeed == "hang":
        sys.stdout.write("waiting for the other rank\n")
        sys.stdout.flush()
        time.sleep(60)
    if misdeed == "silent":
        return
    ranks = request["ranks"] + (misdeed == "ranks")
    answer = {"version": version, "setups_version": "1.2.1", "ranks": ranks}
    if "elements" in request:
        answer["missing"] = [symbol for symbol in request["elements"] if symbol not in KNOWN]
    else:
        answer |= {"converged": False} if misdeed == "unconverged" else calculate(request)
    Path("answer.json").write_text(json.dumps(answer))


main(*sys.argv[1:])
