"""The entry point of the command `miniml`: says what to install where the command's own packages are missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Runs the command line, or ends with a message that says what to install."""
    if not find_spec("kfp"):
        print(
            "error: this Python has miniml without what its command line needs. Install it: "
            "pip install 'miniml[local]', or 'miniml[cli]' to work with a cluster only.",
            file=sys.stderr,
        )
        raise SystemExit(1)
    from miniml.cli.main import main as run  # Only here: it needs kfp.

    run()
