"""Start and end the processes of jobs, and receive requests to stop."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import stat
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, util
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

from ionloop.engines.local import worker
from ionloop.programs.environment import environment
from ionloop.programs.process import status_words
from ionloop.schemas.process import alive

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Workers exit without clean-up, and the tracker would warn of every lock that tqdm made in them.
QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"


def launch(task: worker.Task) -> BaseProcess:
    """Start the process of a job.

    Workers are forked from a server process that has imported jobflow and the Makers, so that a
    start takes milliseconds.

    Parameters
    ----------
    task
        The job and where it runs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ionloop.engines.local.preloaded"])
    process = context.Process(target=worker.main, args=(task,), name=task.job_id)
    # numpy makes its thread pool when the server process imports it, which must see the variables.
    with environment({**task.env, "PYTHONWARNINGS": QUIET_TRACKER}), _bare_main(), _no_hangup():
        process.start()
    return process


def tell_nothing_comes(process: BaseProcess) -> None:
    """Tell the worker of a job that waits for others that no other job runs."""
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGUSR1)


def terminate(process: BaseProcess) -> None:
    """Ask a worker and the programs it started to end."""
    _signal_group(process.pid, signal.SIGTERM)
    process.terminate()  # a young worker has no group of its own yet


def end(process: BaseProcess) -> int:
    """End a worker and the programs it started, at once; return its exit code."""
    _signal_group(process.pid, signal.SIGKILL)
    if process.exitcode is None:
        process.kill()
    process.join()
    exit_code = process.exitcode
    process.close()
    assert exit_code is not None
    return exit_code


def kill_orphan(pid: int, created: float) -> None:
    """Kill a worker that outlived its runner, with the programs it started.

    Parameters
    ----------
    pid
        Process id, and group id, of the worker.
    created
        Its creation time, seconds since the epoch: a later process may have the same id.
    """
    if psutil.pid_exists(pid) and not alive(pid, created):
        return
    _signal_group(pid, signal.SIGKILL)


def crash_message(name: str, exit_code: int) -> str:
    """Say why a job has no result, from the exit code of its process.

    Parameters
    ----------
    name
        Name of the job.
    exit_code
        Exit code; minus the signal number if a signal ended the process.
    """
    if exit_code >= 0:
        return f"{name} failed: its process ended without a result (exit code {exit_code})"
    return f"{name} failed: its process {status_words(exit_code)}"


@dataclass
class StopRequests:
    """Counts Ctrl-C, SIGTERM and the loss of the terminal; each makes ``reader`` readable.

    Attributes
    ----------
    reader, writer
        File descriptors of a pipe, to wait on along with worker processes.
    count
        Requests so far.
    """

    reader: int
    writer: int
    count: int = 0

    def receive(self, number: int, frame: Any) -> None:
        """Note a request (a signal handler).

        Parameters
        ----------
        number
            The signal.
        frame
            Not used.
        """
        if number == signal.SIGHUP:
            _leave_lost_terminal()
            if self.count:  # the signal comes twice, from the terminal and from its shell
                return
        self.count += 1
        os.write(self.writer, b"!")

    def clear(self) -> None:
        """Make ``reader`` wait for the next request."""
        os.read(self.reader, 1)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into requests to stop, as long as the context lasts.

    What is ignored, such as SIGHUP under nohup, stays ignored.
    """
    reader, writer = os.pipe()
    requests = StopRequests(reader, writer)
    in_main = threading.current_thread() is threading.main_thread()
    heard = [each for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    handled = heard if in_main else []
    previous = {number: signal.signal(number, requests.receive) for number in handled}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _end_server() -> None:
    # It would outlive this process by seconds, and write into its terminal or log meanwhile.
    if pid := getattr(forkserver._forkserver, "_forkserver_pid", None):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# After multiprocessing has waited for its processes, before it removes its temporary folder.
util.Finalize(None, _end_server, exitpriority=-1)


def _signal_group(pid: int | None, number: signal.Signals) -> None:
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _leave_lost_terminal() -> None:
    """Discard further output: writing to a terminal that is gone would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextlib.contextmanager
def _no_hangup() -> Iterator[None]:
    # SIGHUP would end the server process, which is in the runner's group and alone knows how
    # workers end. A signal that is blocked here stays blocked in processes that are started now.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _bare_main() -> Iterator[None]:
    # multiprocessing would run the user's script (or the whole CLI) again in every worker.
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
