"""Looks for the champion: what an InferenceService serves now, or the model that a person names.

Only the folder's list of files (`miniml.json`) is read here, so that a champion that cannot be had is told before
any training. Evaluation fetches the rest, and checks every byte of it.
"""

from __future__ import annotations

import re

from miniml.champion.record import Champion
from miniml.cluster.api import Cluster
from miniml.cluster.inference_service import MODEL_DIGEST
from miniml.errors import ChampionError, MinimlError
from miniml.model import manifest
from miniml.model.manifest import MANIFEST_NAME, Manifest
from miniml.progress import note
from miniml.settings.champion import NO_CHAMPION, SERVED, ChampionSettings
from miniml.sources.address import locate
from miniml.store.address import is_in_store

ARGUMENT = "champion"


def find_champion(settings: ChampionSettings, cluster: Cluster | None) -> Champion:
    """What the new model has to beat. Without a `cluster` nothing is served.

    Raises:
        ChampionError: something is served that cannot be compared with. To go on by the absolute rules alone is for
            a person to say, for a gate whose strictest rule goes away with a file would be easily fooled.
        ClusterError: the cluster does not say what is served.
    """
    if settings.champion == NO_CHAMPION:
        found = Champion(absent=f"champion is {NO_CHAMPION!r}, so what serves now was not looked at")
    elif settings.champion != SERVED:
        found = _given(settings.champion)
    elif cluster is None:
        found = Champion(absent="No cluster serves anything here")
    else:
        found = _served(cluster, settings.namespace, settings.service_name)
    note(f"champion: {found.digest[:12]} at {found.source}" if found.exists else f"champion: {found.absent}")
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
    """The manifest of a model folder, without its weights where they lie in a store."""
    return manifest.read(locate(ARGUMENT, source).fetch_file(MANIFEST_NAME).parent)


def _fingerprint(signed: Manifest) -> str:
    """As it was signed; "" for anything else, for it is going to be shown."""
    found = str(signed.data.get("fingerprint", ""))
    return found if re.fullmatch(r"[0-9a-f]{64}", found) else ""


def _incomparable(place: str, why: str) -> ChampionError:
    return ChampionError(
        f"InferenceService {place} cannot be the champion: {why.rstrip('.')}. Restore what it serves; or set "
        f"champion={NO_CHAMPION} to replace it by the absolute rules alone, or name another model there."
    )
