"""Which model the new one has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from miniml.errors import InputError
from miniml.resource_names import SERVING_NAMESPACE
from miniml.settings.checks import require_service
from miniml.settings.field_types import FormField

SERVED = "served"

NO_CHAMPION = "none"


@dataclass(frozen=True)
class ChampionSettings:
    """Which model the new one has to beat."""

    champion: FormField[str] = "served"
    """"served" is what the InferenceService serves now; "none" leaves it to the absolute rules; or a model folder:
    a path, package://, s3://."""
    service_name: FormField[str] = "miniml"
    """The InferenceService's name."""
    namespace: FormField[str] = SERVING_NAMESPACE
    """The namespace that it is served in."""

    def __post_init__(self) -> None:
        if not self.champion.strip():
            raise InputError(
                f"champion is empty. Use {SERVED!r}, {NO_CHAMPION!r}, or the folder or s3:// address of a model."
            )
        require_service(self.service_name, self.namespace)
