"""Says what is asked of the server that has a run, so that who reads runs need not import the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from miniml.cluster.api import Cluster


class RunServer(Protocol):
    """Kubeflow Pipelines, and the cluster that it runs on."""

    @property
    def cluster(self) -> Cluster | None:
        """The cluster itself; None where this machine cannot reach it."""

    def text(self, path: str, query: dict[str, str]) -> str:
        """Returns the body of an answer that is not JSON."""

    def pipeline_name(self, pipeline_id: str) -> str:
        """Returns a pipeline's name."""
