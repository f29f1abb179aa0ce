"""Settings of the champion: the model that a new one has to beat."""

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
    """The model that a new one has to beat."""

    champion: FormField[str] = "served"
    """The model to beat: "served" for the one that the InferenceService serves now, "none" for no comparison, or a
    model folder: a path, package://<package>/<folder> or s3://<bucket>/<path>."""
    service_name: FormField[str] = "miniml"
    """The name of the InferenceService."""
    namespace: FormField[str] = SERVING_NAMESPACE
    """The Kubernetes namespace of the InferenceService."""

    def __post_init__(self) -> None:
        if not self.champion.strip():
            raise InputError(
                f"champion is empty. Use {SERVED!r}, {NO_CHAMPION!r}, or the folder or s3:// address of a model."
            )
        require_service(self.service_name, self.namespace)
