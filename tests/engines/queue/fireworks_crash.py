"""Run one job as a FireWorker that is killed while it enters what the job leads to.

Arguments: file of the LaunchPad; whether it dies at the first new firework or after the last.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket

original = LaunchPad._update_wf


def update_and_die(self: LaunchPad, wf: Any, updated_ids: list[int]) -> None:
    new = sorted(fw_id for fw_id in updated_ids if fw_id < 0)
    if not new:
        original(self, wf, updated_ids)
        return
    entered = new[:1] if sys.argv[2] == "first" else updated_ids
    self._upsert_fws([wf.id_fw[fw_id] for fw_id in entered])
    os._exit(9)


LaunchPad._update_wf = update_and_die
launch_rocket(LaunchPad.from_file(sys.argv[1]), FWorker("cpu"))
