"""What miniml raises when it cannot go on.

Every message names the thing, its value and the remedy, so that it can be shown
to a person as it is: no traceback needed.
"""

from __future__ import annotations

from miniml.escaping import plain


class MinimlError(Exception):
    """The base of every error that miniml raises on purpose.

    Names that came with data or from a server may be in its message, and none of them moves the terminal that shows
    it.
    """

    def __str__(self) -> str:
        return plain(super().__str__())


class InputError(MinimlError, ValueError):
    """What the user gave (a file, a column, an argument) cannot be used."""


class TrainingError(InputError):
    """A training with these arguments comes to nothing on any machine: it diverges, or the model is not made for it.

    In a search that is a trial's result, and no reason to end the search.
    """


class TemporaryError(MinimlError):
    """The network failed, or a server did that may be restarting: the same may go well in a while."""


class HubError(MinimlError):
    """The hub did not give what was asked of it: absent, forbidden, failing or out of reach."""


class HubUnavailableError(HubError, TemporaryError):
    """The hub failed or is out of reach."""


class StoreError(MinimlError):
    """The S3 store did not give or take what was asked of it: absent, forbidden, corrupted or out of reach."""


class StoreUnavailableError(StoreError, TemporaryError):
    """The S3 store failed or is out of reach, for longer than it was waited for."""


class ModelFolderError(MinimlError):
    """A model folder is incomplete, or is not the one that was signed off."""


class StorageError(MinimlError):
    """There is no room, or no right, to write what has to be written."""


class StoppedError(MinimlError):
    """Somebody asked the process to end before its work was done; what had been reached is kept."""


class ChampionError(MinimlError):
    """What serves now cannot be compared with, so that nobody can say whether a new model is better."""


class GateError(MinimlError):
    """A model was about to be deployed that the gate has not let through."""


class TrainingProcessError(MinimlError):
    """The process that trained was killed, again and again, or ended by an error that nobody foresaw."""


class TrainJobError(MinimlError):
    """The training on several nodes failed, or could not begin."""


class ClusterError(MinimlError):
    """The Kubernetes cluster refused something, lacks something, or does not answer."""


class DeploymentError(MinimlError):
    """The new model did not come to serve; what served before serves again."""
