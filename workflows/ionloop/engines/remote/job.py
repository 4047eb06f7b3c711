"""Run one job on a worker of jobflow-remote: ``python -m ionloop.engines.remote.job FOLDER``.

This is the ``execution_cmd`` of a worker, instead of jobflow-remote's own ``jf execution run``,
which refuses a job whose new jobs refer to finished ones. The turns of a loop do that: their data
sets and ensembles come from the turns before.
"""

from __future__ import annotations

import argparse
from functools import partial


def run(folder: str) -> None:
    """Run the job whose files are in a folder, and leave its output there.

    Parameters
    ----------
    folder
        Folder that the runner of jobflow-remote has filled.
    """
    from jobflow.core.flow import get_flow
    from jobflow_remote.jobs import run as remote

    # The function has no parameter for this.
    remote.get_flow = partial(get_flow, allow_external_references=True)  # type: ignore[attr-defined]
    remote.run_remote_job(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m ionloop.engines.remote.job")
    parser.add_argument("folder", help="folder of the job")
    run(parser.parse_args().folder)
