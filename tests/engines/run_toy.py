"""Submit or resume a run of toy jobs, in a process that a test can kill."""

from __future__ import annotations

import sys
from pathlib import Path

import toy_jobs as toy

from ionloop.engines.local.journal import Journal
from ionloop.engines.local.progress import RichProgress, Silent
from ionloop.engines.local.runner import LocalRunner
from ionloop.stores.connect import collection, open_store

RUN = "toy"


def main(folder: Path, flow: str) -> int:
    progress = RichProgress() if sys.stdout.isatty() else Silent()
    runner = LocalRunner(
        store_url=str(folder / "run.db"), scratch=folder / "scratch", cores=2, progress=progress
    )
    with open_store(runner.store_url) as store:
        submitted = Journal(collection(store, "jobs"), RUN).submitted()
    notes = folder / "notes"
    flows = {
        "everything": lambda: toy.everything(notes, 0.1),
        "stubborn": lambda: toy.stubborn(str(notes), 60.0),
        "sleeping": lambda: toy.sleeping(str(notes), 60.0),
    }
    summary = runner.resume(RUN) if submitted else runner.run(flows[flow](), RUN)
    sys.stdout.write(summary.message)
    return 0 if summary.ok else 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
