from __future__ import annotations

import os
import sys
import time

import psutil
import pytest

from ionloop.programs.environment import arguments, environment, words_of
from ionloop.programs.errors import ProgramNotFoundError
from ionloop.programs.log import last_lines, last_words, readable
from ionloop.programs.process import ProgramError, ask, run_program, status_words

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
    assert ended.words.startswith("was killed by SIGKILL")


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
    assert told == [": line 39", f"The end of {log}:", "line 38", "line 39"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit status 0"),
        (1, "ended with exit status 1"),
        (-11, "was killed by SIGSEGV (Segmentation fault)"),
        (139, "ended with exit status 139, SIGSEGV (Segmentation fault)"),
        (-9, "was killed by SIGKILL (Killed; often the memory was not enough)"),
        (255, "ended with exit status 255"),
    ],
)
def test_a_signal_has_its_name(status, words):
    assert status_words(status) == words


def test_a_program_that_does_not_answer_is_ended():
    with pytest.raises(ProgramError, match=r"did not answer within 0\.2 s"):
        ask([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.2)


def test_a_file_that_is_no_program_is_told(tmp_path):
    path = tmp_path / "dp"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(ProgramError, match="cannot be started"):
        ask([str(path)], seconds=5)


def test_binary_output_is_not_repeated_raw():
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4 + b'\\nerror: bad\\n')"
    answer = ask([sys.executable, "-c", script], seconds=30)
    assert answer.last_words == "error: bad"
    assert all(letter.isprintable() or letter in "\n\t" for letter in answer.text)
    assert readable("a\x1b[31mb\x00") == "a[31mb"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "DEEPMD INFO step 1\nTraceback (most recent call last):\n"
            '  File "x.py", line 3\nValueError: no set.000\n\nDEEPMD INFO bye\n',
            "ValueError: no set.000",
        ),
        ("ERROR: Lost atoms\nLast command: run 100\n", "ERROR: Lost atoms"),
        ("hello\n\n", "hello"),
        ("", ""),
    ],
)
def test_the_last_words_are_the_last_line_that_tells_something(log, words):
    assert last_words(log) == words


@pytest.mark.parametrize("command", ["", "   ", "srun 'lmp", '"dp'])
def test_an_empty_or_unbalanced_command_is_refused(command):
    with pytest.raises(ValueError, match=r"quotation|a command is needed"):
        words_of(command)
