#!/usr/bin/env python3
"""Start what a container runs: a FireWorks worker, a jobflow-remote runner, or any command.

::

    ionloop-worker fireworks [options of `rlaunch rapidfire`]
    ionloop-worker remote    [options of `jf runner run`]
    ionloop-worker ping
    ionloop-worker COMMAND ...

MONGO_HOST, MONGO_PORT, MONGO_DATABASE, MONGO_USER and MONGO_PASSWORD describe the database. From
these a LaunchPad file is written, unless there is one in the home folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROLES = {
    "fireworks": ["rlaunch", "rapidfire", "--nlaunches", "infinite", "--sleep", "10"],
    "remote": ["jf", "runner", "run"],
}
PING_TIMEOUT = 5000
"""Time limit of `ping` in ms."""


def launchpad(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of FireWorks' ``my_launchpad.yaml``.

    Raises
    ------
    KeyError
        If MONGO_HOST is not set.
    """
    database = environment.get("MONGO_DATABASE", "ionloop")
    return {
        "host": environment["MONGO_HOST"],
        "port": int(environment.get("MONGO_PORT", "27017")),
        "name": database,
        "username": environment.get("MONGO_USER"),
        "password": environment.get("MONGO_PASSWORD"),
        "authsource": database,
        "strm_lvl": "WARNING",
    }


def configure(home: Path, environment: Mapping[str, str]) -> None:
    """Write the LaunchPad file, readable only for its owner, unless it exists."""
    file = home / ".fireworks" / "my_launchpad.yaml"
    if "MONGO_HOST" not in environment or file.exists():
        return
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps(launchpad(environment), indent=2))  # JSON is YAML, quoted safely


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command for the container's arguments."""
    role, *rest = arguments
    return [*ROLES.get(role, [role]), *rest]


def ping(environment: Mapping[str, str]) -> None:
    """Log in to the database; do nothing if MONGO_HOST is not set.

    Raises
    ------
    pymongo.errors.PyMongoError
        If the server does not answer or refuses the user.
    """
    from pymongo import MongoClient

    if "MONGO_HOST" not in environment:
        return
    pad = launchpad(environment)
    client: MongoClient[Any] = MongoClient(
        pad["host"],
        pad["port"],
        username=pad["username"],
        password=pad["password"],
        authSource=pad["authsource"],
        serverSelectionTimeoutMS=PING_TIMEOUT,
    )
    with client:
        client[pad["name"]].command("ping")


def main(arguments: Sequence[str]) -> None:
    """Ping, or replace this process by the command that the arguments ask for."""
    if not arguments:
        sys.exit(__doc__)
    if arguments[0] == "ping":
        ping(os.environ)
    else:
        configure(Path.home(), os.environ)
        words = command(arguments)
        os.execvp(words[0], words)


if __name__ == "__main__":
    main(sys.argv[1:])
