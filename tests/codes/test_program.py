from __future__ import annotations

import os
import sys
import time

import psutil
import pytest

from ionloop.codes.errors import ProgramNotFoundError
from ionloop.codes.program import (
    ProgramError,
    arguments,
    environment,
    last_lines,
    run_program,
)

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_ranks_are_put_into_the_command():
    words = arguments("python -c 'print({cores})' -n={cores}", 3, "")
    assert words == ["python", "-c", "print(3)", "-n=3"]


@pytest.mark.parametrize("command", ["no-such-program -np 2", ""])
def test_a_missing_program_names_the_cure(command):
    with pytest.raises(ProgramNotFoundError, match="install it from somewhere"):
        arguments(command, 1, "install it from somewhere")


def test_output_status_and_time_are_told(tmp_path):
    script = "import os, time; print(os.getcwd()); time.sleep(0.2); raise SystemExit(7)"
    ended = run_program([sys.executable, "-c", script], tmp_path, tmp_path / "log", 30)
    assert (tmp_path / "log").read_text().strip() == str(tmp_path)
    assert ended.words == "ended with exit status 7"
    assert 0.2 < ended.seconds < 20


def test_a_signal_is_told(tmp_path):
    script = "import os; os.kill(os.getpid(), 9)"
    ended = run_program([sys.executable, "-c", script], tmp_path, tmp_path / "log", 30)
    assert ended.words == "was killed by signal 9"


def test_one_thread_unless_the_environment_says_more(tmp_path, monkeypatch):
    script = "import os; print(os.environ['OMP_NUM_THREADS'])"
    for given, expected in [(None, "1"), ("4", "4")]:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        run_program([sys.executable, "-c", script], tmp_path, tmp_path / "log", 30)
        assert (tmp_path / "log").read_text().strip() == expected


def test_variables_are_as_before_afterwards(monkeypatch):
    monkeypatch.setenv("IONLOOP_GIVEN", "before")
    monkeypatch.delenv("IONLOOP_NEW", raising=False)
    with (
        pytest.raises(KeyError, match="meanwhile"),
        environment({"IONLOOP_GIVEN": "new", "IONLOOP_NEW": "1"}),
    ):
        assert (os.environ["IONLOOP_GIVEN"], os.environ["IONLOOP_NEW"]) == ("new", "1")
        raise KeyError("meanwhile")
    assert os.environ["IONLOOP_GIVEN"] == "before"
    assert "IONLOOP_NEW" not in os.environ


def test_what_hangs_is_ended_with_all_it_started(tmp_path):
    log = tmp_path / "log"
    begin = time.monotonic()
    with pytest.raises(ProgramError, match="not through after 2 s and was ended"):
        run_program([sys.executable, "-c", PARENT], tmp_path, log, 2)
    assert time.monotonic() - begin < 15
    child = int(log.read_text())
    assert child != os.getpid()
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert "is empty" in last_lines(log)
    log.write_text("\n".join(f"line {n}" for n in range(40)) + "\n\n")
    told = last_lines(log, 2).splitlines()
    assert told[1:] == ["line 38", "line 39"]
