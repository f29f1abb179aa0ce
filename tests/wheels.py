"""Tiny wheels, and a tiny index of them in a folder; copied into a project, it is the project's build backend too."""

from __future__ import annotations

import os
import time
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path


def write_wheel(
    folder: Path, name: str, version: str, headers: Iterable[str] = (), module: str | None = None
) -> str:
    """Writes the wheel of a package that holds one empty module; returns the file's name.

    Args:
        folder: Where to; it must exist.
        name: As a module is called, with underscores.
        version: Its version.
        headers: Further lines of its METADATA, `Requires-Dist: ...` say.
        module: What the module is called, if not as the package.
    """
    about = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]
    files = {
        f"{module or name}.py": "",
        f"{about}/METADATA": "\n".join(metadata) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{about}/RECORD"))
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return wheel.name


def publish(index: Path, name: str, version: str, module: str | None = None) -> None:
    """Puts a package into the index in the folder `index`, which pip and uv read by its file:// address."""
    folder = index / name.replace("_", "-")
    folder.mkdir(parents=True, exist_ok=True)
    link = write_wheel(folder, name, version, module=module)
    with (folder / "index.html").open("a") as page:
        page.write(f'<a href="{link}">{link}</a>\n')


def build_editable(folder: str, settings: object = None, metadata: object = None) -> str:
    """Makes the wheel by which the project in the current folder is installed, as PEP 660 asks."""
    if waiting := os.environ.get("TINY_BUILD_WAITS"):
        Path(waiting).write_text(str(os.getpid()))
        time.sleep(600)
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    headers = [
        line
        for extra, names in project["optional-dependencies"].items()
        for line in (
            f"Provides-Extra: {extra}",
            *(f'Requires-Dist: {name}; extra == "{extra}"' for name in names),
        )
    ]
    return write_wheel(Path(folder), project["name"], project["version"], headers)


def build_wheel(folder: str, settings: object = None, metadata: object = None) -> str:
    """PEP 517 wants it to be there."""
    return build_editable(folder)
