"""What can go wrong with the store and the jobs in it."""

from __future__ import annotations


class QueueError(Exception):
    """Something about the workshop's queue; the message says what happened and what to do."""


class StoreUnavailable(QueueError):
    """The store did not answer, so nothing was changed; try again when it is back."""


class StoreRefused(QueueError):
    """The store answered, and refused: a wrong password, missing rights or no memory left."""


class JobConflict(QueueError):
    """A job with this id exists already with another content; send a new id."""


class ClaimLost(QueueError):
    """The claim is no longer the current one of its job, so nothing of it is accepted any more."""


class WorkerNameTaken(QueueError):
    """Another live worker has this name; give each worker a COMFYUME_WORKER_ID of its own."""
