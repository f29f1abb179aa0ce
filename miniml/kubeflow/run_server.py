"""Defines what modules that read runs need from a server, so that they need not import its client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from miniml.cluster.api import Cluster


class RunServer(Protocol):
    """A server of Kubeflow Pipelines, and the cluster that it runs on."""

    @property
    def cluster(self) -> Cluster | None:
        """The cluster itself; None where this machine cannot reach it."""

    def text(self, path: str, query: dict[str, str]) -> str:
        """Returns the body of the response to a GET request, as text."""

    def pipeline_name(self, pipeline_id: str) -> str:
        """Returns a pipeline's name."""
