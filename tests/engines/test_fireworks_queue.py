"""The commands of a queue, with programs that stand in for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ionloop.engines.fireworks.queue import Queue

pytest.importorskip("fireworks")

SQUEUE = """#!/bin/sh
echo '  JOBID PARTITION NAME USER ST'
echo '     12      main  a23   me  R'
echo '    7_3       gpu    b   me PD'
"""


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def adapter(folder: Path, kind: str = "SLURM", **commands: object) -> Path:
    lines = ["_fw_name: CommonAdapter", f"_fw_q_type: {kind}", "_q_commands_override:"]
    lines += [f"  {name}: {command}" for name, command in commands.items()]
    path = folder / "adapter.yaml"
    path.write_text("\n".join(lines if commands else lines[:2]))
    return path


def test_numbers_of_the_jobs_that_are_there(tmp_path: Path) -> None:
    status = program(tmp_path, "squeue", SQUEUE)
    queue = Queue.of(adapter(tmp_path, status_cmd=status))
    assert queue is not None and queue.present() == {"12", "7"}


def test_jobs_are_ended_by_the_usual_command_or_another(tmp_path: Path) -> None:
    assert Queue.of(adapter(tmp_path)) == Queue(("squeue",), ("scancel",))
    assert Queue.of(adapter(tmp_path, "PBS")) == Queue(("qstat",), ("qdel",))
    log = tmp_path / "log"
    cancel = program(tmp_path, "end", f'#!/bin/sh\necho "$@" > {log}\n')
    queue = Queue.of(adapter(tmp_path, cancel_cmd=f"{cancel} --quiet"))
    assert queue is not None and queue.end(["3", "4"])
    assert log.read_text() == "--quiet 3 4\n"


def test_queue_that_does_not_answer_says_nothing_about_its_jobs(tmp_path: Path) -> None:
    broken = program(tmp_path, "squeue", "#!/bin/sh\necho 12\nexit 1\n")
    for command in (broken, tmp_path / "none"):
        queue = Queue.of(adapter(tmp_path, status_cmd=command, cancel_cmd=command))
        assert queue is not None
        assert queue.present() is None and not queue.end(["1"])


def test_adapter_of_an_unknown_kind(tmp_path: Path) -> None:
    assert Queue.of(adapter(tmp_path, "Mine")) is None
