"""``/comfyume/my-models`` and ``/comfyume/room-models``: models that people bring, and what of them the room has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from aiohttp import web

from ..blobs.digest import Digest
from ..blobs.errors import BlobMissing, UploadRefused
from ..blobs.http_server import UploadReceiver, announced_start
from ..blobs.protocol import SIZE_HEADER
from ..comfyui_seams import model_lists, server
from ..job_queue.errors import NoRoom, QueueError
from ..job_queue.jobs import GIB
from ..job_queue.keys import Keys
from ..job_queue.messages import INSTRUCTORS, message, publish
from ..model_vault.errors import Damaged, NameTaken, NoSuchModel, UnsafeModelName
from ..model_vault.names import SAFETENSORS, checked
from ..model_vault.safetensors_file import check_whole
from ..model_vault.shelves import NOT_LISTED, ShelvedModel, Shelves
from ..model_vault.unnamed import stand_in
from ..settings import PREFIX, Settings
from .activity_notes import ActivityNotes
from .disk_use import DiskUse
from .gate import PERSON
from .problems import problem

log = logging.getLogger("comfyume")

MINE = "/comfyume/my-models"
ROOM = "/comfyume/room-models"


class ModelShelves:
    """Takes models from people, and the instructor's word on what the room shall have of them."""

    def __init__(
        self,
        shelves: Shelves,
        disk: DiskUse,
        settings: Settings,
        client: redis.asyncio.Redis,
        keys: Keys,
        notes: ActivityNotes,
    ) -> None:
        self._shelves = shelves
        self._receiver = UploadReceiver(shelves.arriving)
        self._disk = disk
        self._largest = int(settings.model_upload_gib * GIB)
        self._allow_pickles = settings.models_pickles
        self._client = client
        self._keys = keys
        self._notes = notes

    def mount(self) -> None:
        """Add the routes."""
        one = MINE + "/{folder}/{name}"
        for method, path, handler in (
            ("GET", MINE, self.mine),
            ("PUT", one, self.upload),
            ("DELETE", one, self.remove),
            ("PUT", one + "/offer", self.offer),
            ("DELETE", one + "/offer", self.withdraw),
            ("GET", ROOM, self.room),
            ("PUT", ROOM + "/{user}/{folder}/{name}", self.let_in),
            ("DELETE", ROOM + "/{user}/{folder}/{name}", self.refuse),
        ):
            server.add_route(method, path, _guarded(handler))

    # What each person does with their own.

    async def mine(self, request: web.Request) -> web.Response:
        """One's own ``models`` and the ``room``'s; the ``folders`` for further ones, and the ``largest``'s bytes."""
        user = request[PERSON].name
        own, offered, room = await asyncio.to_thread(
            lambda: (self._shelves.own(user), self._shelves.offered(), self._shelves.room())
        )
        waiting, shared = _keys_of(offered, user), _keys_of(room, user)
        return web.json_response(
            {
                "largest": self._largest,
                "folders": [folder for folder in model_lists.folders() if folder not in NOT_LISTED],
                "models": [
                    {
                        **_told(model),
                        "offered": (model.folder, model.name) in waiting,
                        "in_room": (model.folder, model.name) in shared,
                    }
                    for model in own
                ],
                "room": [_told(model) for model in room],
            }
        )

    async def upload(self, request: web.Request) -> web.Response:
        """Take a model, as ``blobs.protocol`` has it but for the hash, which a browser cannot tell.

        ``modified`` in the query tells two files of the same name and size apart, so that what has arrived of one is
        not gone on with by the other.
        """
        size = _announced_size(request)
        self._check_wanted(request.match_info["folder"], request.match_info["name"], size)
        user = request[PERSON].name
        folder, name = checked(request.match_info["folder"], request.match_info["name"])
        modified = request.query.get("modified", "")[:64]
        identity = stand_in(f"upload of {user}: {folder}/{name} {modified}", size)
        digest = await self._receive(request, user, identity)
        if name.lower().endswith(SAFETENSORS):
            await asyncio.to_thread(self._check_whole, digest, name)
        model = await asyncio.to_thread(self._shelves.add, user, folder, name, digest.sha256)
        self._notes.note(user, "model brought", model=f"{folder}/{name}", size=model.size)
        await asyncio.to_thread(self._shelves.tidy)
        return web.json_response(_told(model), status=201)

    async def remove(self, request: web.Request) -> web.Response:
        """Delete a model of one's own."""
        user, (folder, name) = request[PERSON].name, _named(request)
        await asyncio.to_thread(self._shelves.remove, user, folder, name)
        self._notes.note(user, "model deleted", model=f"{folder}/{name}")
        return web.Response(status=204)

    async def offer(self, request: web.Request) -> web.Response:
        """Offer a model of one's own to the room; instructors are told."""
        user, (folder, name) = request[PERSON].name, _named(request)
        model = await asyncio.to_thread(self._shelves.offer, user, folder, name)
        self._notes.note(user, "model offered", model=f"{folder}/{name}")
        text = f"{user} offers the model {folder}/{name} to the room. Let it in, or not, in Workshop > Models."
        try:
            await publish(self._client, self._keys, "message", message(text, who=user, to=INSTRUCTORS))
        except QueueError as error:
            # The offer stands in the panel all the same.
            log.debug("no instructor was told of an offer: %s", error)
        return web.json_response(_told(model))

    async def withdraw(self, request: web.Request) -> web.Response:
        """Take back an offer."""
        user, (folder, name) = request[PERSON].name, _named(request)
        await asyncio.to_thread(self._shelves.withdraw, user, folder, name)
        return web.Response(status=204)

    # What the instructor decides.

    async def room(self, _request: web.Request) -> web.Response:
        """The models of people that everybody may use, and those that are ``offered``."""
        offered, room = await asyncio.to_thread(lambda: (self._shelves.offered(), self._shelves.room()))
        return web.json_response(
            {"offered": [_told(model) for model in offered], "room": [_told(model) for model in room]}
        )

    async def let_in(self, request: web.Request) -> web.Response:
        """Let in what somebody offers."""
        user, (folder, name) = request.match_info["user"], _named(request)
        model = await asyncio.to_thread(self._shelves.let_in, user, folder, name)
        self._notes.note(request[PERSON].name, "model let in", model=f"{folder}/{name}", user=user)
        return web.json_response(_told(model))

    async def refuse(self, request: web.Request) -> web.Response:
        """Take a model from the room, or else decline the offer of it."""
        user, (folder, name) = request.match_info["user"], _named(request)
        try:
            await asyncio.to_thread(self._shelves.withdraw, user, folder, name)
        except NoSuchModel:
            await asyncio.to_thread(self._shelves.take_out, user, folder, name)
        self._notes.note(request[PERSON].name, "model refused", model=f"{folder}/{name}", user=user)
        return web.Response(status=204)

    def _check_wanted(self, folder: str, name: str, size: int) -> None:
        if not self._largest:
            raise UploadRefused(403, f"This workshop takes no models from people ({PREFIX}MODEL_UPLOAD_GIB is 0).")
        if size > self._largest:
            raise UploadRefused(
                413, f"{name} has {size / GIB:.2f} GiB, and a model may have {self._largest / GIB:g} GiB here."
            )
        if folder in NOT_LISTED or folder not in model_lists.folders():
            raise UploadRefused(400, f"No node of this workshop lists models of a folder {folder!r}.")
        if not name.lower().endswith(SAFETENSORS) and not self._allow_pickles:
            raise UploadRefused(
                415,
                "Only .safetensors files are taken here. Files of other kinds can run any program as they are loaded; "
                "ask whoever made the model for a .safetensors file.",
            )

    async def _receive(self, request: web.Request, user: str, identity: Digest) -> Digest:
        if announced_start(request, identity) is not None:
            await self._disk.make_room(user, identity.size)
        try:
            return await self._receiver.receive_unnamed(request, identity)
        except UploadRefused:
            # It comes again, and is not to count twice.
            self._disk.look_again(user)
            raise

    def _check_whole(self, digest: Digest, name: str) -> None:
        """Raises `Damaged`; what is damaged is not kept."""
        path = self._shelves.arriving.path(digest.sha256)
        if path is None:
            raise Damaged(name, "it is gone again")
        try:
            check_whole(path, name)
        except Damaged:
            self._shelves.arriving.discard(digest.sha256)
            raise


def _guarded(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Say as a problem what a handler comes to."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except UploadRefused as error:
            more: dict[str, Any] = {name: value for name, value in error.body.items() if name != "error"}
            return problem(error.status, "upload-refused", str(error), **more)
        except NoRoom as error:
            return problem(413, "limit-disk", str(error))
        except NoSuchModel as error:
            return problem(404, "not-found", str(error))
        except NameTaken as error:
            return problem(409, "name-taken", str(error))
        except UnsafeModelName as error:
            return problem(400, "invalid-name", str(error))
        except Damaged as error:
            return problem(422, "no-model", str(error))
        except BlobMissing:
            return problem(503, "gone-again", "What has arrived is gone again. Send it once more.", retry_after=1)

    return answer


def _named(request: web.Request) -> tuple[str, str]:
    """The folder and file name of a model that should be there. Raises `NoSuchModel`."""
    folder, name = request.match_info["folder"], request.match_info["name"]
    try:
        return checked(folder, name)
    except UnsafeModelName:
        raise NoSuchModel(folder, name) from None


def _announced_size(request: web.Request) -> int:
    try:
        size = int(request.headers.get(SIZE_HEADER, ""))
    except ValueError:
        size = 0
    if size <= 0:
        raise UploadRefused(400, f"Send the size in bytes in the header {SIZE_HEADER}.")
    return size


def _told(model: ShelvedModel) -> dict[str, Any]:
    return {
        "user": model.user,
        "folder": model.folder,
        "name": model.name,
        "size": model.size,
        "in_graphs": model.words,
    }


def _keys_of(models: list[ShelvedModel], user: str) -> set[tuple[str, str]]:
    return {(model.folder, model.name) for model in models if model.user == user}
