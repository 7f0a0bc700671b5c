"""Which way a job's files travel: a folder that both machines see, a bucket that both reach, or HTTP."""

from __future__ import annotations

from pathlib import Path

from ..blobs.delivery_notes import DeliveryNotes
from ..blobs.shared_bucket import SharedBucket
from ..blobs.store import BlobFolder
from ..job_queue.jobs import ClaimedJob
from ..shared_folder import NOTES, read_mark
from .bucket_transport import BucketTransport
from .transports import HttpTransport, NoTransport, Sessions, SharedFolderTransport, Transport


class Transports:
    """Chooses the transport of a job.

    Args:
        shared_folder: the folder of the settings.
        bucket: the bucket of the settings.
        frontend_url: the frontend's address, where another one holds here than the job tells.
        blobs: where inputs are kept.
    """

    def __init__(
        self,
        *,
        shared_folder: Path | None,
        bucket: SharedBucket | None,
        workshop: str,
        frontend_url: str | None,
        blobs: BlobFolder,
    ) -> None:
        self._bucket = bucket
        self._shared_folder = shared_folder
        self._workshop = workshop
        self._shared_mark = read_mark(shared_folder) if shared_folder else None
        self._frontend_url = frontend_url
        self._blobs = blobs
        self._sessions = Sessions()

    def for_job(self, job: ClaimedJob) -> Transport:
        """The transport of a job."""
        shared = job.envelope.get("shared")
        if shared and self._shared_folder is not None and shared["mark"] == self._shared_mark:
            notes = DeliveryNotes(self._shared_folder / NOTES / self._workshop)
            return SharedFolderTransport(self._shared_folder, shared["folders"], notes, job)
        frontend = self._frontend_url or job.envelope.get("frontend")
        if not frontend:
            return NoTransport()
        direct = HttpTransport(self._sessions, self._blobs, frontend, job)
        mark = job.envelope.get("bucket")
        if self._bucket is None or not mark:
            return direct
        return BucketTransport(self._bucket, mark, self._blobs, direct)
