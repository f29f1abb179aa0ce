"""Runs the command `miniml`, as `python -m miniml`."""

from __future__ import annotations

from miniml.cli.entry import main

if __name__ == "__main__":
    main()
