"""What a stage computes with: this Python, miniml's own code, and every library that it may import."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

_CODE = (".py", ".html", ".md")


def fingerprint() -> str:
    """A digest (64 hexadecimal digits) that is another one where code or libraries are.

    In an image, the lock file tells of other stages' libraries too: all images of a version are built by the same one.
    """
    digest = hashlib.sha256(f"{sys.version} {platform.machine()}\n".encode())
    package = Path(__file__).parent
    code = (path for path in package.rglob("*") if path.suffix in _CODE)
    for path in sorted([*code, *package.parent.glob("requirements.lock")]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package.parent)} {len(content)}\n".encode() + content)
    for told in sorted(map(_told, distributions())):
        digest.update(told.encode())
    return digest.hexdigest()


def _told(installed: Distribution) -> str:
    """A digest of the list of its files, which tells their digests: one version may come from several places.

    What was not installed as pip does it has no such list, and tells its version.
    """
    named = (installed.read_text(name) for name in ("RECORD", "METADATA", "PKG-INFO"))
    return hashlib.sha256(next(filter(None, named), "").encode()).hexdigest()
