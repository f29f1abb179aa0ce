"""Takes datasets and models from this machine: from a path, or from an installed package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from miniml.errors import InputError
from miniml.files.digests import digest_of, sha256
from miniml.sources.source import Fetched, Mount, Pinned, Source

PACKAGES = "/opt/packages"
"""The folder in a container where this machine's packages are mounted that a source is taken from."""


@dataclass(frozen=True)
class DiskSource(Source):
    """A file or folder on this machine."""

    where: Path
    """The absolute path."""

    form = "a path"
    reachable_from_pods = False

    @classmethod
    def parse(cls, argument: str, text: str) -> Self:
        """Finds the file or folder.

        Raises:
            InputError: it does not exist.
        """
        path = Path(text).expanduser()
        if not path.exists():
            raise InputError(
                f"{argument} {text!r}: no such file or folder (looked in {Path.cwd()}). "
                f"Check the path, or give a hub id like 'Yelp/yelp_review_full'."
            )
        return cls(argument, text, path.resolve())

    def __str__(self) -> str:
        return str(self.where)

    def fetch(self) -> Fetched:
        """Returns the path itself: nothing needs fetching."""
        return Fetched(self.where, self.text)

    def pin(self) -> Pinned:
        """Hashes the file, or a folder's files with their names. Times are ignored, because copying may keep them."""
        try:
            if self.where.is_file():
                return Pinned(state=sha256(self.where))
            files = sorted(file for file in self.where.rglob("*") if file.is_file())
            named = {file.relative_to(self.where).as_posix(): sha256(file) for file in files}
            return Pinned(state=digest_of(named))
        except OSError:  # A file is not readable, or was just removed.
            return Pinned.unknown()

    def mount(self) -> Mount | None:
        """Mounts it under its own path."""
        return Mount(self.where, str(self.where))


@dataclass(frozen=True)
class PackageSource(DiskSource):
    """A file or folder that an installed Python package carries."""

    scheme = "package://"
    form = "package://<package>/<path>"

    @classmethod
    def parse(cls, argument: str, text: str) -> Self:
        """Finds the file or folder within its package.

        Raises:
            InputError: no such package is installed, or it has no such file or folder.
        """
        return cls(argument, text, _inside_package(argument, text))

    @classmethod
    def short_name(cls, text: str) -> str:
        """Returns the package's name."""
        return text.removeprefix(cls.scheme).partition("/")[0]

    def mount(self) -> Mount | None:
        """Mounts the whole package, so that the container finds it as an installed package."""
        package = self.short_name(self.text)
        folder = package_folder(package) or self.where
        return Mount(folder, f"{PACKAGES}/{package}", environment={"PYTHONPATH": f"/opt/miniml:{PACKAGES}"})


def package_folder(package: str) -> Path | None:
    """Returns the folder of an installed package; None where none of that name is installed."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve()


def _inside_package(argument: str, source: str) -> Path:
    package, _, inside = source.removeprefix(PackageSource.scheme).partition("/")
    folder = package_folder(package)
    if folder is None:
        raise InputError(
            f"{argument} {source!r}: no package {package!r} is installed here. Install it (it is the name that "
            f"one imports, not always the one that pip installs), or give a path or a hub id."
        )
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder):
        raise InputError(f"{argument} {source!r} leads out of package {package!r}. Give a path inside of it.")
    if not path.exists():
        raise InputError(
            f"{argument} {source!r}: package {package!r} carries no {inside!r}; it has: "
            f"{', '.join(sorted(entry.name for entry in folder.iterdir()))}."
        )
    return path
