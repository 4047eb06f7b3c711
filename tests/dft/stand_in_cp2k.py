"""Stands in for CP2K: writes the recorded output of a real run, or misbehaves.

Arguments: misdeed (none, crash, unconverged, hang, cut), then CP2K's own.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

RECORDED = Path(__file__).with_name("lif.cp2k.out").read_text()
BANNER = ' CP2K version 2023.1\n compiler options:\n   -D __DATA\n   _DIR="/data/of/cp2k" -O2\n'
UNCONVERGED = " *** WARNING in qs_scf.F:585 :: SCF run NOT converged ***\n"


def main(misdeed: str, *arguments: str) -> None:
    if "--version" in arguments:
        sys.stdout.write(BANNER)
        return
    given, output = arguments[1], Path(arguments[3])
    assert "&FORCE_EVAL" in Path(given).read_text()
    if misdeed == "hang":
        time.sleep(60)
    texts = {
        "crash": " *** the density matrix is not idempotent ***\n",
        "unconverged": RECORDED.split(" ENERGY|")[0] + UNCONVERGED,
        "cut": RECORDED.split(" STRESS|")[0],
    }
    output.write_text(texts.get(misdeed, RECORDED))
    if misdeed in ("crash", "unconverged"):
        sys.exit(1)


main(*sys.argv[1:])
