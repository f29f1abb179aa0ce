"""Finds the champion: the model that an InferenceService serves now, or the one that a person names.

Only the model folder's manifest (`miniml.json`) is read, so that a champion that is missing is an error before any
training. The evaluation fetches the other files, and checks their digests.
"""

from __future__ import annotations

import re

from miniml.champion.record import Champion
from miniml.cluster.api import Cluster
from miniml.cluster.inference_service import MODEL_DIGEST
from miniml.errors import ChampionError, MinimlError
from miniml.model import manifest
from miniml.model.manifest import MANIFEST_NAME, Manifest
from miniml.progress import logger
from miniml.settings.champion import NO_CHAMPION, SERVED, ChampionSettings
from miniml.sources.address import locate
from miniml.store.address import is_in_store

ARGUMENT = "champion"


def find_champion(settings: ChampionSettings, cluster: Cluster | None) -> Champion:
    """Returns the model that a new one has to beat, or why there is none.

    Args:
        settings: Which model is the champion, and the name and namespace of the service.
        cluster: The cluster that serves; None outside of one, where nothing is served.

    Raises:
        ChampionError: The served model cannot be compared with. Only a person may choose to go on without a champion:
            otherwise a deleted file would switch off the gate's strictest rule.
        ModelFolderError: The folder that a person names is no model folder.
        InputError: The address that a person names cannot be read.
        StoreError: The S3 store does not have the model that a person names, or does not answer.
        ClusterError: The cluster does not answer.
    """
    if settings.champion == NO_CHAMPION:
        found = Champion(absent=f"champion is {NO_CHAMPION!r}, so what serves now was not looked at")
    elif settings.champion != SERVED:
        found = _given(settings.champion)
    elif cluster is None:
        found = Champion(absent="No cluster serves anything here")
    else:
        found = _served(cluster, settings.namespace, settings.service_name)
    logger.info(
        f"champion: {found.digest[:12]} at {found.source}" if found.exists else f"champion: {found.absent}"
    )
    return found


def _served(cluster: Cluster, namespace: str, name: str) -> Champion:
    place = f"{namespace}/{name}"
    service = cluster.inference_service(namespace, name)
    if service is None:
        return Champion(place=place, absent=f"Nothing is served as {place}")
    source = str(service["spec"].get("predictor", {}).get("model", {}).get("storageUri", ""))
    expected = (service["metadata"].get("annotations") or {}).get(MODEL_DIGEST, "")
    if not expected or not is_in_store(source):
        raise _incomparable(
            place,
            f"it serves {source or 'no model folder'!r}"
            + ("" if expected else f", and has no annotation {MODEL_DIGEST}")
            + ": it is none of our models in a store",
        )
    try:
        signed = _signed(source)
    except MinimlError as error:
        raise _incomparable(place, str(error)) from error
    if signed.digest != expected:
        raise _incomparable(
            place, f"it serves model {expected[:12]}, but {source} now holds {signed.digest[:12]}"
        )
    return Champion(signed.digest, source, _fingerprint(signed), place)


def _given(champion: str) -> Champion:
    where = locate(ARGUMENT, champion)
    if not where.keeps_folders:
        raise ChampionError(
            f"champion {champion!r} is neither a folder on this machine nor in a store. Give the folder of a model "
            f"that miniml trained (local_outputs/latest/model), its s3:// address, {SERVED!r} or {NO_CHAMPION!r}."
        )
    source = str(where)
    signed = _signed(source)
    return Champion(signed.digest, source, _fingerprint(signed))


def _signed(source: str) -> Manifest:
    """Reads the manifest of a model folder; from a store nothing else is fetched."""
    return manifest.read(locate(ARGUMENT, source).fetch_file(MANIFEST_NAME).parent)


def _fingerprint(signed: Manifest) -> str:
    """Returns the fingerprint of the training data, or "" if it has no valid form, since reports show it."""
    found = str(signed.data.get("fingerprint", ""))
    return found if re.fullmatch(r"[0-9a-f]{64}", found) else ""


def _incomparable(place: str, why: str) -> ChampionError:
    return ChampionError(
        f"InferenceService {place} cannot be the champion: {why.rstrip('.')}. Restore what it serves; or set "
        f"champion={NO_CHAMPION} to replace it by the absolute rules alone, or name another model there."
    )
