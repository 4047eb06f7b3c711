"""A bare Debian root in a folder, in which the steps of a Dockerfile run without Docker.

Every command runs in a mount and a process namespace of its own: nothing stays mounted and nothing
goes on running, however a test ends. Packages come from where this machine gets its own.
"""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from image_files import ROOT, Step, steps

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
MOUNTS = (
    "mount -t proc proc {root}/proc",
    "mount -t sysfs -o ro sysfs {root}/sys",
    "mkdir -p {root}/dev/shm",
    "mount -t tmpfs tmpfs {root}/dev/shm",
)
ABOUT_PACKAGES = {"index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout"}
PROXIES = {"http_proxy", "https_proxy", "no_proxy"}
CERTIFICATES = "/etc/ssl/machine.pem"


class BareRoot:
    """What a Dockerfile has built so far: a folder, variables, a user, a working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {"PATH": SEARCH_PATH}
        self.build_variables: dict[str, str] = {}
        self.user = "0:0"
        self.working_folder = "/"
        self.entrypoint: list[str] = []
        self._pip = pip_options()
        self._shared = local_indexes(self._pip)

    def build(self, dockerfile: Path) -> None:
        for step in steps(dockerfile):
            getattr(self, f"_{step.instruction.lower()}")(step)

    def run(self, command: str, **variables: str) -> str:
        """Run a shell command as the current user and return what it prints."""
        environment = {"HOME": self._home(), **self._machine(), **self.variables}
        environment |= self.build_variables | variables
        assignments = [f"{name}={value}" for name, value in environment.items()]
        inside = ["sh", "-c", f"cd {self.working_folder} && {command}"]
        change_root = ["chroot", f"--userspec={self.user}", str(self.folder), "/usr/bin/env", "-i"]
        script = [
            "set -e; exec 2>&1",
            *(mount.format(root=self.folder) for mount in MOUNTS),
            *(f"mount -o bind,ro {path} {self._make(path)}" for path in self._shared),
            f"exec {shlex.join([*change_root, *assignments, *inside])}",
        ]
        return output(*NAMESPACES, "sh", "-c", "\n".join(script))

    def start(self, *words: str, **variables: str) -> str:
        """Start the container with a command and return what it prints."""
        return self.run(f"exec {shlex.join([*self.entrypoint, *words])}", **variables)

    def _make(self, path: Path) -> Path:
        inside = self.folder / path.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        return inside

    def _home(self) -> str:
        lines = (self.folder / "etc/passwd").read_text().splitlines()
        homes = {fields[2]: fields[5] for line in lines if (fields := line.split(":"))}
        return homes[self.user.partition(":")[0]]

    def _machine(self) -> dict[str, str]:
        pip = {f"PIP_{key.upper().replace('-', '_')}": value for key, value in self._pip.items()}
        proxies = {key: os.environ[key] for key in os.environ if key.lower() in PROXIES}
        return {**proxies, **pip, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def _from(self, step: Step) -> None:
        distribution, _, tag = step.text.partition(":")
        assert distribution == "debian", step
        codename = tag.removesuffix("-slim")
        words = ["debootstrap", "--variant=minbase", "--include=ca-certificates", codename]
        output(*NAMESPACES, *words, str(self.folder), mirror(codename))
        for file in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{file}", self.folder / "etc")
        machine = output("apt-config", "dump", "Acquire")
        (self.folder / "etc/apt/apt.conf.d/machine").write_text(machine)
        if certificates := self._pip.pop("cert", None):
            shutil.copy(certificates, self.folder / CERTIFICATES.lstrip("/"))
            self._pip["cert"] = CERTIFICATES

    def _arg(self, step: Step) -> None:
        self.build_variables |= step.assignments(self.variables)

    def _env(self, step: Step) -> None:
        self.variables |= step.assignments(self.variables)

    def _copy(self, step: Step) -> None:
        *sources, target = step.words
        inside = self.folder / target.lstrip("/")
        folder = inside if target.endswith("/") else inside.parent
        folder.mkdir(parents=True, exist_ok=True)
        for source in (ROOT / source for source in sources):
            if source.is_dir():
                shutil.copytree(source, inside, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, inside)

    def _run(self, step: Step) -> None:
        self.run(step.text)

    def _user(self, step: Step) -> None:
        self.user = step.text

    def _workdir(self, step: Step) -> None:
        self.working_folder = step.text

    def _entrypoint(self, step: Step) -> None:
        self.entrypoint = step.words

    def _cmd(self, _: Step) -> None:
        """Say what runs by default: the tests name what they start."""

    _healthcheck = _cmd


def output(*words: str) -> str:
    """Run a program and return what it prints; fail with its last words if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = done.stdout[-6000:] + done.stderr[-3000:]
    assert done.returncode == 0, f"{shlex.join(words)[-500:]}:\n{said}"
    return done.stdout


@contextmanager
def built(dockerfile: Path) -> Iterator[BareRoot]:
    """Build an image into a temporary folder."""
    with TemporaryDirectory(prefix="image-") as folder:
        Path(folder).chmod(0o755)
        root = BareRoot(Path(folder))
        root.build(dockerfile)
        yield root


def mirror(codename: str) -> str:
    """Return where this machine's apt finds a Debian release; "" if it does not."""
    line = "$(CODENAME) $(REPO_URI)"
    found = output("apt-get", "indextargets", "--format", line, "Created-By: Packages")
    pairs = [line.split() for line in found.splitlines()]
    return next((uri for name, uri in pairs if name == codename), "")


def pip_options() -> dict[str, str]:
    """Return where this machine's pip finds packages; the environment overrules files."""
    listed = output(sys.executable, "-m", "pip", "config", "list")
    pairs = [line.partition("=") for line in listed.splitlines() if "=" in line]
    pairs.sort(key=lambda pair: pair[0].startswith(":env:"))
    found = {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, _, value in pairs}
    return {key: " ".join(found[key].split()) for key in found if key in ABOUT_PACKAGES | {"cert"}}


def local_indexes(options: Mapping[str, str]) -> list[Path]:
    """Return the folders on this machine that pip's options name."""
    links = [Path(urlsplit(word).path) for word in options.get("find-links", "").split()]
    urls = [options.get(key, "") for key in ("index-url", "extra-index-url")]
    local = [urlsplit(url) for url in " ".join(urls).split() if url.startswith("file:")]
    # The pages of an index refer to files beside its folder.
    indexes = [Path(url.path).parent for url in local]
    return sorted({path for path in [*links, *indexes] if path.is_dir()})
