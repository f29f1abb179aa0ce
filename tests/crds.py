"""KServe's own schemas, which the objects that we write are held against."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "shared" / "crds"

needed = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"KServe's schemas are not at {FOLDER}")


def validate(thing: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError where the API server would refuse a KServe object, unknown fields included."""
    group, _, version = thing["apiVersion"].partition("/")
    _validator(f"{group}_{thing['kind'].lower()}s.yaml", version).validate(thing["spec"])


@cache
def _validator(file: str, version: str) -> jsonschema.Draft7Validator:
    crd = yaml.load((FOLDER / file).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    found = next(entry for entry in crd["spec"]["versions"] if entry["name"] == version)
    return jsonschema.Draft7Validator(strict(found["schema"]["openAPIV3Schema"]["properties"]["spec"]))


def strict(schema: Any) -> Any:
    """The schema with unknown fields forbidden, as the API server does for server-side apply."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed["additionalProperties"] = False
    return closed
