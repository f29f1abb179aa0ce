"""Defines the errors that miniml raises on purpose.

Every message names the thing, its value and the remedy, so that a person needs no traceback.
"""

from __future__ import annotations

from miniml.escaping import plain

TRACEBACK = "Traceback (most recent call last):"
"""The line that Python begins a traceback with."""
LONGEST_ERROR = 1500
"""The most characters of a step's error that are shown; the log has all of it."""


class MinimlError(Exception):
    """The base of every error that miniml raises on purpose.

    Its message may hold names from data or from a server; control characters in them are escaped.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


class InputError(MinimlError, ValueError):
    """A file, column or argument that the user gave cannot be used."""


class TrainingError(InputError):
    """A training with these arguments fails on any machine: it diverges, say, or the model does not support them.

    In a search, this is the result of one trial, and the search continues.
    """


class TemporaryError(MinimlError):
    """The network failed, or a server that may be restarting: a retry may succeed."""


class HubError(MinimlError):
    """The hub did not provide a file: it is missing or forbidden, or the hub failed or cannot be reached."""


class HubUnavailableError(HubError, TemporaryError):
    """The hub failed or cannot be reached."""


class StoreError(MinimlError):
    """An object of the S3 store is missing, forbidden or corrupt, or the store failed or cannot be reached."""


class StoreUnavailableError(StoreError, TemporaryError):
    """The S3 store failed or could not be reached, until the time limit for retries."""


class ModelFolderError(MinimlError):
    """A model folder is incomplete, or its files differ from those that were signed."""


class StorageError(MinimlError):
    """The disk is full, or a folder may not be written to."""


class StoppedError(MinimlError):
    """The process was asked to end before its work was done; a checkpoint holds what was reached."""


class ChampionError(MinimlError):
    """The champion cannot be compared with the new model, so that nobody can say which is better."""


class GateError(MinimlError):
    """Somebody asked to deploy a model that the gate has not promoted."""


class TrainingProcessError(MinimlError):
    """The training process was killed repeatedly, or ended with an unexpected error."""


class TrainJobError(MinimlError):
    """The training on several nodes failed, or could not start."""


class ClusterError(MinimlError):
    """The Kubernetes cluster refused something, lacks something, or does not answer."""


class DeploymentError(MinimlError):
    """The new model could not be served; the previous one serves again."""
