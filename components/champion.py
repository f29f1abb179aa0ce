"""champion: which model serves now, and has to be beaten?"""

from typing import NamedTuple

from kfp import dsl

from components.stage import stage


@stage("deploy")
def champion(
    record: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
    champion: str,
    service_name: str,
    namespace: str,
) -> NamedTuple("Found", [("source", str), ("digest", str)]):  # type: ignore[valid-type]
    """Finds the model that the new one has to beat; fails where one is served that cannot be compared with.

    On a laptop nothing is served.

    Args:
        record: What was found, for gate and deploy.
        summary: The same for a person.
        champion: "served", "none", or a model's folder or s3:// address.
        service_name: The InferenceService's name.
        namespace: Its namespace.

    Returns:
        source: Where its model folder is; empty where there is none.
        digest: What the folder is signed with; empty where there is none.
    """
    from pathlib import Path

    from miniml.champion_search import find_champion
    from miniml.cluster import Cluster, in_pod
    from miniml.settings import ChampionSettings

    found = find_champion(
        ChampionSettings(champion=champion, service_name=service_name, namespace=namespace),
        Cluster.connect() if in_pod() else None,
    )
    found.save(Path(record.path))
    Path(summary.path).write_text(found.markdown(), encoding="utf-8")
    return (found.source, found.digest)
