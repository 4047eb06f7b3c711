"""Write the store of an interrupted run with the version of ionloop that is installed.

``run_of_0_1.db.xz`` was written so by version 0.1 (commit a1bbe0b), in an environment of its own::

    python tests/moved/write_store.py FOLDER

and ``run_of_schema_2.db.xz`` by commit 7d99b52, the last whose documents had schema version 2.
The run is interrupted in its first turn, while new frames are labelled: initial labels, an
ensemble, an exploration and a selection are finished, and jobs wait in the journal.
"""

from __future__ import annotations

import lzma
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).parent
TOY = HERE.parent / "toy"
RUN_FILE = """\
name: toy
structures: [AuCu.vasp]
cores: 1
seed: 3
initial: {n_perturbed: 6, displacement: 0.15}
label: {model: "toy_labeller:ToyLabeller", batch_size: 2, options: {seconds: 0.1}}
train:
  n_models: 2
  validation_fraction: 0.1
  rcut: 4.5
  neurons: [2, 4]
  axis_neurons: 2
  fitting: [8]
  learning_rate_start: 5.0e-3
  learning_rate_stop: 1.0e-4
  steps: 100
  warm_steps: 60
select: {max_labels: 6}
trust: {low: 0.01, high: 5.0}
stages:
  - {temperatures: [300], steps: 40, dump_every: 5, n_structures: 2, max_turns: 2}
production: {steps: 100, n_models: 1}
validation: {temperatures: []}
"""


def main(folder: Path) -> None:
    """Run, interrupt, and compress the store."""
    folder.mkdir(parents=True)
    shutil.copy(TOY / "AuCu.vasp", folder)
    (folder / "run.yaml").write_text(RUN_FILE)
    command = [str(Path(sys.executable).with_name("ionloop")), "run", "run.yaml"]
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": paths, "PYTHONPATH": str(TOY), "TOY_LOG": str(folder / "log")}
    process = subprocess.Popen(command, cwd=folder, env=os.environ | environment)
    while n_calculated(folder / "log") < 8:  # six at the start, two of the first turn
        assert process.poll() is None, "the run ended before it was interrupted"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    with closing(sqlite3.connect(folder / "ionloop.db")) as store:
        store.execute("PRAGMA journal_mode = DELETE")
        store.execute("VACUUM")
    content = (folder / "ionloop.db").read_bytes()
    (folder / "run_of_0_1.db.xz").write_bytes(lzma.compress(content, preset=9))


def n_calculated(log: Path) -> int:
    """Return how many labels were calculated."""
    return len(log.read_text().splitlines()) if log.is_file() else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
