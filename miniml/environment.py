"""Identifies the software that a stage runs with: this Python, miniml's code, and the installed libraries."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

_CODE = (".py", ".html", ".md")


def fingerprint() -> str:
    """Returns a digest (64 hexadecimal digits) of Python, miniml's code and the installed libraries.

    In an image it covers other stages' libraries too, by the lock file from which all images of a version are built.
    """
    digest = hashlib.sha256(f"{sys.version} {platform.machine()}\n".encode())
    package = Path(__file__).parent
    code = (path for path in package.rglob("*") if path.suffix in _CODE)
    for path in sorted([*code, *package.parent.glob("requirements.lock")]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package.parent)} {len(content)}\n".encode() + content)
    for each in sorted(map(_digest, distributions())):
        digest.update(each.encode())
    return digest.hexdigest()


def _digest(installed: Distribution) -> str:
    """Returns a digest of the list of a distribution's files with their digests, since one version may vary by source.

    A distribution that pip did not install may have no such list; then its metadata, with the version, stands in.
    """
    texts = (installed.read_text(name) for name in ("RECORD", "METADATA", "PKG-INFO"))
    return hashlib.sha256(next(filter(None, texts), "").encode()).hexdigest()
