"""What can go wrong with the store and the jobs in it."""

from __future__ import annotations

from collections.abc import Callable

from .jobs import GIB


class QueueError(Exception):
    """Something about the workshop's queue; the message says what happened and what to do."""


class StoreUnavailable(QueueError):
    """The store did not answer, so nothing was changed; try again when it is back."""


class StoreRefused(QueueError):
    """The store answered, and refused: a wrong password, missing rights or no memory left."""


class JobConflict(QueueError):
    """A job with this id exists already with another content; send a new id."""


class LimitReached(QueueError):
    """A submit is over a limit of the person or of the workshop, so nothing was stored; the message says what to do.

    Args:
        limit: its name.
        most: the limit itself. GPU time is in milliseconds, files are in bytes.
        used: what counts against it already; of credits those that are free.
        expected: what this job is expected to take.
        wait: milliseconds until it may be tried again; -1 if waiting does not help.
    """

    def __init__(self, limit: str, most: int, used: int = 0, expected: int = 0, wait: int = -1) -> None:
        super().__init__(_LIMITS[limit](most, used, expected, wait))
        self.limit = limit
        self.most = most
        #: Seconds until it may be tried again; None if waiting does not help.
        self.retry_after = wait / 1000 if wait >= 0 else None


class NoRoom(LimitReached):
    """A file is more than a person may keep beside those that they have."""


class ClaimLost(QueueError):
    """The claim is no longer the current one of its job, so nothing of it is accepted any more."""


class SecretsUnreadable(QueueError):
    """The API keys of a prompt cannot be sealed or opened; set COMFYUME_SECRET to the same words everywhere."""


class WorkerNameTaken(QueueError):
    """Another live worker has this name; give each worker a COMFYUME_WORKER_ID of its own."""


def _minutes(ms: float) -> str:
    """GPU time as people read it, also in credits: ``0.5``, ``12``."""
    return f"{round(ms / 60_000, 1 if ms < 600_000 else None):g}"


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"


def _again(wait: int) -> str:
    """What to do about a limit that time may help with."""
    if wait < 0:
        return "Ask the instructor for more."
    minutes = -(-wait // 60_000)
    when = f"{minutes} minute{'s' if minutes > 1 else ''}" if minutes < 120 else f"{minutes / 60:.0f} hours"
    return f"Try again in {when}, or ask the instructor for more."


#: What a person is told, from the limit, what is used, what this prompt is expected to take, and how long to wait.
_LIMITS: dict[str, Callable[[int, int, int, int], str]] = {
    "per_person": lambda most, *_: (
        f"You have {most} prompts in the queue, which is as many as one person may have here. "
        "Try again when one of them has ended, or cancel one."
    ),
    "in_all": lambda most, *_: (
        f"There are {most} prompts in the queue, which is as many as this workshop takes. Try again in a while."
    ),
    "per_minute": lambda most, *_: (
        f"You queued {most} prompts within this minute, which is as many as one person may here. Try again in a minute."
    ),
    "disk": lambda most, used, *_: (
        f"Your files take {_gib(used)}, and one person may keep {_gib(most)} here. Delete some that you need no more, "
        "or ask the instructor for more."
    ),
    "gpu_day": lambda most, used, expected, wait: (
        f"Your prompts of the last 24 hours, queued ones included, take {_minutes(used)} of the {_minutes(most)} GPU "
        "minutes that one person may use in that time, and this one is expected to take "
        f"{_minutes(expected)}. {_again(wait)}"
    ),
    "gpu_workshop": lambda most, used, expected, wait: (
        f"Your prompts in this workshop, queued ones included, take {_minutes(used)} of the {_minutes(most)} GPU "
        f"minutes that one person may use, and this one is expected to take {_minutes(expected)}. {_again(wait)}"
    ),
    "credits": lambda most, used, expected, wait: (
        f"This prompt is expected to take {_minutes(expected)} credits (minutes of GPU time), and you have "
        f"{_minutes(max(used, 0))} that your other prompts do not need. "
        f"{f'Each hour brings {_minutes(most)}. ' if most else ''}{_again(wait)}"
    ),
}
