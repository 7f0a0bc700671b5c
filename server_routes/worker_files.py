"""The routes by which a worker fetches a job's input files and brings its results, when no folder is shared.

The worker shows the claim under which it runs the job; the claim opens the files of that job and no others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from ..blobs.delivery_notes import DeliveryNote, DeliveryNotes
from ..blobs.digest import Digest, DigestCache
from ..blobs.errors import BlobError, BlobMissing, NotEnoughSpace, UnsafeName, UploadRefused
from ..blobs.http_server import UploadReceiver, announced_digest, serve_blob
from ..blobs.placing import Placer
from ..blobs.protocol import BUCKET_HEADER, SMALL
from ..blobs.store import BlobFolder
from ..job_queue.errors import QueueError
from ..job_queue.frontend_queue import FrontendQueue, HeldJob
from .cold_files import ColdFiles
from .job_bucket import JobBucket
from .job_signatures import JobSignatures

log = logging.getLogger("comfyume")

PATH = "/comfyume/worker/files/{job_id}"
#: Jobs whose delivered files are remembered, so that a repeated delivery changes nothing.
MOST_JOBS = 500


class Deliveries:
    """What one claim has delivered.

    Attributes:
        names: the name that each delivery got, by what was asked.
    """

    def __init__(self, names: dict[str, str]) -> None:
        self.placers: dict[str, Placer] = {}
        self.names = names
        self.lock = asyncio.Lock()


class NotHereYet(Exception):
    """A result is on its way from the bucket; so many bytes of it are here."""

    def __init__(self, arrived: int) -> None:
        self.arrived = arrived


@dataclass(frozen=True)
class Wanted:
    """Where a delivery is to go, and the words by which it is known again."""

    user: str
    kind: str
    subfolder: str
    name: str
    key: str


class WorkerFiles:
    """Serves input files to workers and takes their results.

    Args:
        folder_of: a user's folder of a kind.
        blobs: where results arrive.
        notes: for what is delivered, so that it can be taken back if an attempt is lost.
        bucket: through which large results may come.
        cold: brings back what is no more on this machine's disk.
    """

    def __init__(
        self,
        queue: FrontendQueue,
        signatures: JobSignatures,
        folder_of: Callable[[str, str], Path],
        blobs: BlobFolder,
        notes: DeliveryNotes,
        bucket: JobBucket | None = None,
        cold: ColdFiles | None = None,
    ) -> None:
        self._cold = cold
        self._bucket = bucket
        self._queue = queue
        self._signatures = signatures
        self._notes = notes
        self._folder_of = folder_of
        self._blobs = blobs
        self._receiver = UploadReceiver(blobs)
        self._digests = DigestCache()
        self._deliveries: OrderedDict[tuple[str, str], Deliveries] = OrderedDict()

    def mount(self, add_route: Callable[[str, str, Handler], object]) -> None:
        """Add the routes, each by method, path and handler."""
        add_route("GET", PATH, self.send)
        add_route("PUT", PATH, self.take)

    async def _job_and_claim(self, request: web.Request) -> tuple[HeldJob, str]:
        claim = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            job = await self._queue.held_by(claim, request.match_info["job_id"])
            is_genuine = job is not None and await self._signatures.are_right(job)
        except QueueError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        if job is None:
            raise web.HTTPForbidden(text="This claim is not the job's current one.")
        if not is_genuine:
            log.error("[comfyume] a worker asks for files of job %s, which no frontend has stored", job.job_id)
            raise web.HTTPForbidden(text="No frontend has stored this job as it is.")
        return job, claim

    async def send(self, request: web.Request) -> web.StreamResponse:
        """A file that the job names, by ``kind`` and ``path``; 409 with its new digest when it has changed since."""
        job, _ = await self._job_and_claim(request)
        wanted = (request.query.get("kind", ""), request.query.get("path", ""))
        if wanted not in job.files:
            raise web.HTTPNotFound(text="The job names no such file.")
        root = self._folder_of(job.user, wanted[0]).resolve()
        path = (root / wanted[1]).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise web.HTTPNotFound(text=f"{wanted[1]} is no longer there.")
        if self._cold is not None:
            try:
                await self._cold.warm(path)
            except BlobError as error:
                raise web.HTTPServiceUnavailable(text=str(error)) from error
        digest = await self._digests.of(path)
        if digest.sha256 != request.query.get("sha256"):
            return web.json_response({"sha256": digest.sha256, "size": digest.size}, status=409)
        return serve_blob(path, digest.sha256)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take a result and place it in the person's folder; answers with the name that it has there."""
        kind, subfolder, name = (request.query.get(key, "") for key in ("kind", "subfolder", "name"))
        if kind not in ("output", "temp"):
            raise web.HTTPBadRequest(text="Results go to output or temp.")
        try:
            if BUCKET_HEADER in request.headers:
                digest, blob, user, claim = await self._fetch(request)
            else:
                digest, blob, user, claim = await self._receive_if_small(request)
            owner = (request.match_info["job_id"], claim)
            deliveries = await self._deliveries_of(*owner)
            key = json.dumps([kind, subfolder, name, digest.sha256])
            if key in deliveries.names:
                return web.json_response({"name": deliveries.names[key]})
            blob = blob or await self._receiver.receive(request, digest)
            # The transfer may have taken long: look again whose job it is.
            if digest.size > 1024 * 1024:
                await self._job_and_claim(request)
            async with deliveries.lock:
                if key not in deliveries.names:
                    placed = Wanted(user, kind, subfolder, name, key)
                    deliveries.names[key] = await self._place(deliveries, owner, placed, blob, digest)
        except NotHereYet as error:
            return web.json_response({"arrived": error.arrived}, status=202)
        except UploadRefused as error:
            return web.json_response(error.body, status=error.status)
        except UnsafeName as error:
            return web.json_response({"error": str(error)}, status=400)
        except BlobMissing:
            return web.json_response({"offset": 0}, status=409)
        except NotEnoughSpace as error:
            return web.json_response({"error": str(error)}, status=507)
        except OSError as error:
            log.warning("[comfyume] a result cannot be kept: %s", error)
            return web.json_response({"error": f"The frontend cannot keep the file: {error.strerror}"}, status=500)
        return web.json_response({"name": deliveries.names[key]})

    async def _fetch(self, request: web.Request) -> tuple[Digest, Path | None, str, str]:
        """Get a result out of the bucket; returns as ``_receive_if_small``. Raises ``NotHereYet``."""
        job, claim = await self._job_and_claim(request)
        digest = announced_digest(request)
        if request.headers[BUCKET_HEADER] != "1":
            raise UploadRefused(400, f"Send 1 in the header {BUCKET_HEADER}, or leave it out.")
        if self._bucket is None:
            raise UploadRefused(409, "This frontend has no bucket. Send the bytes.", offset=0)
        try:
            arrived = await self._bucket.arrive(digest)
        except NotEnoughSpace:
            raise
        except BlobError as error:
            log.warning("[comfyume] a result does not come through the bucket: %s", error)
            raise UploadRefused(409, str(error), offset=0) from error
        if isinstance(arrived, int):
            raise NotHereYet(arrived)
        return digest, arrived, job.user, claim

    async def _receive_if_small(self, request: web.Request) -> tuple[Digest, Path | None, str, str]:
        """Take a small file while the store is asked whose job it is; a large one waits for the answer.

        Returns:
            The digest that was announced, the blob of a small file, the user and the claim.
        """
        asking = asyncio.create_task(self._job_and_claim(request))
        try:
            digest = announced_digest(request)
            blob = await self._receiver.receive(request, digest) if digest.size <= SMALL else None
        except UploadRefused:
            # Who has no claim learns nothing but that.
            await asking
            raise
        finally:
            if not asking.done():
                await asyncio.wait([asking])
        try:
            job, claim = await asking
        except web.HTTPException:
            await asyncio.to_thread(self._blobs.discard, digest.sha256)
            raise
        return digest, blob, job.user, claim

    async def _deliveries_of(self, job_id: str, claim: str) -> Deliveries:
        """What a claim has delivered, to a process before this one too."""
        owner = (job_id, claim)
        if owner not in self._deliveries:
            is_noted = self._notes.has(job_id, claim)
            names = await asyncio.to_thread(self._noted_names, job_id, claim) if is_noted else {}
            self._deliveries.setdefault(owner, Deliveries(names))
        self._deliveries.move_to_end(owner)
        while len(self._deliveries) > MOST_JOBS:
            self._deliveries.popitem(last=False)
        return self._deliveries[owner]

    def _noted_names(self, job_id: str, claim: str) -> dict[str, str]:
        return {
            note.asked: posixpath.basename(note.path)
            for note in self._notes.read(job_id, claim)
            if note.asked and note.is_there(self._folder_of(note.user, note.kind))
        }

    async def _place(
        self, deliveries: Deliveries, owner: tuple[str, str], wanted: Wanted, blob: Path, digest: Digest
    ) -> str:
        if wanted.kind not in deliveries.placers:
            deliveries.placers[wanted.kind] = Placer(self._folder_of(wanted.user, wanted.kind))
        placer = deliveries.placers[wanted.kind]

        def note(path: str, inode: int) -> None:
            self._notes.add(*owner, DeliveryNote(wanted.user, wanted.kind, path, inode, wanted.key))

        def place() -> str:
            # It stays until it is placed: another job may be delivering the same content.
            try:
                return placer.place(blob, wanted.subfolder, wanted.name, keep_source=True, note=note)
            except FileNotFoundError as error:
                raise BlobMissing(digest.sha256) from error
            finally:
                self._blobs.discard(digest.sha256)

        return place() if digest.size <= SMALL else await asyncio.to_thread(place)
