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


class LimitReached(QueueError):
    """A submit is over one of the workshop's limits; try again when some of the jobs have ended."""

    def __init__(self, limit: str, most: int) -> None:
        super().__init__(_LIMITS[limit].format(most))
        self.limit = limit
        self.most = most


class ClaimLost(QueueError):
    """The claim is no longer the current one of its job, so nothing of it is accepted any more."""


class SecretsUnreadable(QueueError):
    """The API keys of a prompt cannot be sealed or opened; set COMFYUME_SECRET to the same words everywhere."""


class WorkerNameTaken(QueueError):
    """Another live worker has this name; give each worker a COMFYUME_WORKER_ID of its own."""


_LIMITS = {
    "per_person": "You have {} prompts in the queue, which is as many as one person may have here. "
    "Try again when one of them has ended, or cancel one.",
    "in_all": "There are {} prompts in the queue, which is as many as this workshop takes. Try again in a while.",
    "per_minute": "You queued {} prompts within this minute, which is as many as one person may here. "
    "Try again in a minute.",
}
