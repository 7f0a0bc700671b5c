"""How many bytes of files and answers this process sends, for what traffic costs.

An answer counts with its whole length as it begins to be sent, so of a film that somebody skips through more counts
than has left. Not counted are events and previews on sockets, which are small beside the files that they tell of.
"""

from __future__ import annotations

import re

from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.meter import Moved

#: Where workers fetch inputs and bring results.
_WORKERS = re.compile("/comfyume/worker/files/[^/]+")


class MovedBytes:
    """Counts for as long as this process runs."""

    def __init__(self) -> None:
        self._moved = Moved()
        self._unknown: list[web.StreamResponse] = []

    def mount(self) -> None:
        """See every answer."""
        server.on_answer(self._note)

    def sent_to_people(self, count: int) -> None:
        """Count what is sent piece by piece."""
        self._moved.to_people += count

    def so_far(self) -> Moved:
        """What was moved since the process began."""
        answers, self._unknown = self._unknown, []
        for response in answers:
            # By now it is known how short it has become.
            self._moved.to_people += response.content_length or 0
        return Moved(**vars(self._moved))

    async def _note(self, request: web.Request, response: web.StreamResponse) -> None:
        of_worker = _WORKERS.fullmatch(request.path) is not None
        if of_worker and request.method == "PUT":
            self._moved.from_workers += request.content_length or 0
        if request.method == "HEAD" or response.status in (204, 304):
            return
        if of_worker:
            self._moved.to_workers += response.content_length or 0
        elif response.compression:
            self._unknown.append(response)
        else:
            self._moved.to_people += response.content_length or 0
