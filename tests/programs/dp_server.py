"""Fork processes of DeePMD-kit that have imported TensorFlow already, for the tests.

``python dp_server.py SOCKET``: serves until its standard input is closed. Each connection is one
run of `dp`. Its exit status goes back over the connection; if the other side hangs up first, the
run is killed. TensorFlow is imported at the first request, in one thread, before any fork.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def serve(path: str) -> None:
    """Answer requests until standard input is closed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ)
    events.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listener:
                _begin(listener.accept()[0], events)
            elif key.fileobj in events.get_map():
                pid, line, process = key.data
                _end(pid, line, process, events)


def _begin(line: socket.socket, events: selectors.BaseSelector) -> None:
    """Fork a run of `dp`; watch it and the line."""
    size, descriptors, *_ = socket.recv_fds(line, 8, 3)
    with line.makefile("rb") as stream:
        content = stream.read(int.from_bytes(size, "big")) if size else b""
    if len(descriptors) < 3 or not content:
        line.close()
        return
    import deepmd.tf.entrypoints.main  # noqa: F401

    gc.freeze()  # a fork would copy all memory that its garbage collection looks at
    pid = os.fork()
    if not pid:
        events.close()
        _become_dp(json.loads(content), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    process = os.pidfd_open(pid)
    for watched in (line, process):
        events.register(watched, selectors.EVENT_READ, (pid, line, process))


def _end(pid: int, line: socket.socket, process: int, events: selectors.BaseSelector) -> None:
    """Kill the run if it is still there; tell the other side its exit status if it is there."""
    for watched in (line, process):
        events.unregister(watched)
    os.kill(pid, signal.SIGKILL)  # nothing happens to one that has ended and is not waited for
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):
        line.sendall(str(status).encode())
    line.close()
    os.close(process)


def _become_dp(request: dict[str, Any], descriptors: list[int]) -> None:
    status = 1
    try:
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["dp", *request["arguments"]]
        status = _run()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run() -> int:
    from deepmd.main import main

    try:
        main()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
    Path(sys.argv[1]).unlink()
