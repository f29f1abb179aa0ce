"""What a benchmark has measured, kept on disk, so that its page can be written again without measuring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path("local_outputs") / "benchmarks"


def keep(name: str, result: dict[str, Any]) -> None:
    """Puts the result of the benchmark of that name in place of its last one."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    _file(name).write_text(json.dumps(result, indent=1) + "\n")


def last(name: str) -> dict[str, Any]:
    """What it has measured last, as JSON gives it back."""
    result: dict[str, Any] = json.loads(_file(name).read_text())
    return result


def there(name: str) -> bool:
    """Whether it has measured anything yet."""
    return _file(name).exists()


def forget(name: str) -> None:
    """Removes what it has measured."""
    _file(name).unlink(missing_ok=True)


def _file(name: str) -> Path:
    return _FOLDER / f"{name}.json"
