"""How a job's files reach a worker and come back: through a folder that both machines see, or over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

import aiohttp

from ..blobs.delivery_notes import DeliveryNote, DeliveryNotes
from ..blobs.digest import Digest, digest_file
from ..blobs.errors import BlobMissing, TransferFailed
from ..blobs.filing import link_or_copy
from ..blobs.http_client import announce, download, upload
from ..blobs.placing import Placer
from ..blobs.protocol import SMALL
from ..blobs.store import BlobFolder
from ..job_queue.jobs import ClaimedJob

T = TypeVar("T")


@dataclass(frozen=True)
class InputFile:
    """A file that a job reads.

    Attributes:
        kind: ``input``, ``output`` or ``temp``: which of the person's folders it lies in.
        path: its path in that folder, with ``/``.
    """

    kind: str
    path: str
    digest: Digest

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> InputFile:
        """From the envelope of a job."""
        return cls(value["kind"], value["path"], Digest(value["sha256"], value["size"]))


class Transport(Protocol):
    """Moves the files of one job."""

    async def fetch(self, file: InputFile, destination: Path) -> None:
        """Put a person's file where the job reads it."""

    async def deliver(self, kind: str, subfolder: str, name: str, source: Path) -> str:
        """Bring a finished file into the person's folder, overwriting nothing; the source stays.

        Returns:
            The name that it has there.

        Raises:
            BlobError: it could not be brought.
            OSError: as the file system does.
        """

    def settle(self) -> None:
        """The job has ended with what was delivered: nothing of it is taken back any more. Raises OSError."""


class SharedFolderTransport:
    """Both machines see the person's folders: reading is a link, delivering is a new name.

    Args:
        root: the shared folder.
        folders: the person's folders by kind, below the root or absolute.
        notes: for what is delivered, so that it can be taken back if this attempt is lost.
    """

    def __init__(self, root: Path, folders: dict[str, str], notes: DeliveryNotes, job: ClaimedJob) -> None:
        self._root = root
        self._folders = folders
        self._notes = notes
        self._job = job
        self._placers: dict[str, Placer] = {}

    async def fetch(self, file: InputFile, destination: Path) -> None:
        """See ``Transport``."""
        await asyncio.to_thread(_bring, self._root / self._folders[file.kind] / file.path, destination)

    async def deliver(self, kind: str, subfolder: str, name: str, source: Path) -> str:
        """See ``Transport``."""
        job = self._job
        if kind not in self._placers:
            self._placers[kind] = Placer(self._root / self._folders[kind])

        def note(path: str, inode: int) -> None:
            self._notes.add(job.job_id, job.claim, DeliveryNote(job.user, kind, path, inode))

        place = partial(self._placers[kind].place, source, subfolder, name, keep_source=True, note=note)
        return await _blocking(source, place)

    def settle(self) -> None:
        """See ``Transport``. A frontend would forget the notes too, but ask the store about each of them first."""
        if self._placers:
            self._notes.forget(self._job.job_id, self._job.claim)


async def _blocking(source: Path, work: Callable[[], T]) -> T:
    """Do something with a file: a large one in a thread, a small one here, where it takes less than the way there."""
    if os.stat(source).st_size <= SMALL:
        return work()
    return await asyncio.to_thread(work)


def _bring(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        link_or_copy(source, destination)
    except FileNotFoundError as error:
        raise BlobMissing(str(source)) from error


class Sessions:
    """One HTTP session for all jobs, made when the event loop first needs it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        """The session; on the event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
            )
        return self._session


class HttpTransport:
    """The worker asks the frontend for files and sends it the results; the frontend never opens a connection."""

    def __init__(self, sessions: Sessions, blobs: BlobFolder, frontend: str, job: ClaimedJob) -> None:
        self._sessions = sessions
        self._blobs = blobs
        self._files = f"{frontend}/comfyume/worker/files/{job.job_id}"
        self._headers = {"Authorization": f"Bearer {job.claim}"}

    async def fetch(self, file: InputFile, destination: Path) -> None:
        """See ``Transport``. A file that is here already is not sent again."""
        digest = file.digest
        if await asyncio.to_thread(self._blobs.path, digest.sha256) is None:
            query = urlencode({"kind": file.kind, "path": file.path, "sha256": digest.sha256})
            await download(self._sessions.get(), f"{self._files}?{query}", self._blobs, digest, headers=self._headers)
        await asyncio.to_thread(self._blobs.link_to, digest.sha256, destination)

    async def deliver(self, kind: str, subfolder: str, name: str, source: Path) -> str:
        """See ``Transport``."""
        digest = await _blocking(source, partial(digest_file, source))
        url = self._url_of(kind, subfolder, name)
        return self._name_in(await upload(self._sessions.get(), url, source, digest, headers=self._headers))

    async def announce(self, kind: str, subfolder: str, name: str, digest: Digest) -> str:
        """Let the frontend fetch a finished file from the bucket; returns and raises as ``deliver``."""
        url = self._url_of(kind, subfolder, name)
        return self._name_in(await announce(self._sessions.get(), url, digest, headers=self._headers))

    def _url_of(self, kind: str, subfolder: str, name: str) -> str:
        return f"{self._files}?{urlencode({'kind': kind, 'subfolder': subfolder, 'name': name})}"

    def _name_in(self, reply: dict[str, Any]) -> str:
        final = reply.get("name")
        if not isinstance(final, str):
            raise TransferFailed("Uploading to", self._files, "its answer names no file", "See the frontend's log.")
        return final

    def settle(self) -> None:
        """See ``Transport``. The frontend's notes are its own to forget."""


class NoTransport:
    """There is no way to the frontend that queued the job."""

    async def fetch(self, file: InputFile, destination: Path) -> None:
        """See ``Transport``."""
        raise _no_way("Fetching")

    async def deliver(self, kind: str, subfolder: str, name: str, source: Path) -> str:
        """See ``Transport``."""
        raise _no_way("Delivering")

    def settle(self) -> None:
        """See ``Transport``."""


def _no_way(action: str) -> TransferFailed:
    return TransferFailed(
        action, "the frontend's files", "it has told no address", "Set COMFYUME_FRONTEND_URL on this worker."
    )
