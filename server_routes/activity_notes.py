"""What of a request goes into the activity log. No text of prompts, unless whoever runs the workshop wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..accounts.activity import ActivityLog
from ..comfyui_seams.context import Cancel, Change, Forget, SetFlag, Submit, Visit
from .identity import LOCAL_USER

#: Characters of a prompt's texts that are noted.
MOST_TEXT = 2_000
#: Ids of jobs that one entry names.
MOST_JOBS = 50


class ActivityNotes:
    """Notes what people change; of one person on their own machine nothing."""

    def __init__(self, activity: ActivityLog, *, with_prompts: bool) -> None:
        self._activity = activity
        self._with_prompts = with_prompts

    def note(self, user: str, what: str, /, **details: Any) -> None:
        """Note what a user has done; see ``ActivityLog.note``."""
        if user != LOCAL_USER:
            self._activity.note(user, what, **details)

    def changed(self, visit: Visit, change: Change, jobs: Sequence[str]) -> None:
        """Note a change that is stored.

        Args:
            jobs: the ids of the jobs that it has concerned.
        """
        note = self.note
        if isinstance(change, Submit):
            texts = {"prompt": texts_of(change.item[2])} if self._with_prompts else {}
            note(visit.user, "submit", job=change.item[1], **texts)
        elif isinstance(change, Cancel):
            if jobs:
                note(visit.user, "cancel", jobs=list(jobs[:MOST_JOBS]), count=len(jobs))
        elif isinstance(change, Forget):
            whole = change.job_ids is None
            note(visit.user, "clear history", **({} if whole else {"jobs": list(jobs[:MOST_JOBS]), "count": len(jobs)}))
        elif isinstance(change, SetFlag):
            note(visit.user, "free", flag=change.name)


def texts_of(prompt: dict[str, Any]) -> str:
    """What somebody has written in a graph: its inputs of more than one word."""
    return "\n".join(_texts(prompt))[:MOST_TEXT]


def _texts(prompt: dict[str, Any]) -> Iterator[str]:
    for node in prompt.values():
        for value in node.get("inputs", {}).values():
            if isinstance(value, str) and len(value.split(maxsplit=1)) > 1:
                yield value
