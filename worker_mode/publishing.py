"""Bringing a job's results to its person, and giving the names in its events the form that they have there.

A job saves into folders of its own, under the names that ComfyUI gives. Each file is then delivered into the person's
folder, where it gets that person's next number, and every place in the job's outputs that names it is rewritten.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..blobs.placing import Numbered, parse_numbered
from ..comfyui_seams.context import Folders
from .transports import Transport

#: Longest string that is looked at as the name of a file.
LONGEST_NAME = 1024
#: ComfyUI's way of naming a file in another folder than the usual one: ``shot.png [temp]``.
_ANNOTATED = re.compile(r"(.*?)(\s*\[(output|temp)\])", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A file by ComfyUI's three words for it: ``type``, ``subfolder`` and ``filename``."""

    kind: str
    subfolder: str
    name: str

    @property
    def path(self) -> str:
        """The path below the folder of its kind, with ``/``."""
        return posixpath.join(self.subfolder, self.name)


class PublishedNames:
    """Which file of a person each file of a job became; ComfyUI's cache repeats the old names in later jobs.

    A name that a worker used for a person is not used again for that person: jobs begin with the last name of each
    series in their folders.
    """

    def __init__(self, limit: int = 20_000, most_series: int = 500) -> None:
        self._limit = limit
        self._most_series = most_series
        self._names: OrderedDict[tuple[str, Place], Place] = OrderedDict()
        self._series: dict[str, OrderedDict[Place, Numbered]] = {}

    def get(self, user: str, local: Place) -> Place | None:
        """What a file of the job is called at the person's, if it was published."""
        return self._names.get((user, local))

    def remember(self, user: str, local: Place, final: Place) -> None:
        """Note a delivered file."""
        self._names[user, local] = final
        self._names.move_to_end((user, local))
        while len(self._names) > self._limit:
            self._names.popitem(last=False)
        for name in (local.name, final.name):
            self._note_number(user, local, parse_numbered(name))

    def forget(self, user: str, local: Place) -> None:
        """A file that was delivered is not there any more; its number stays used."""
        self._names.pop((user, local), None)

    def _note_number(self, user: str, place: Place, numbered: Numbered | None) -> None:
        if numbered is None:
            return
        series = self._series.setdefault(user, OrderedDict())
        key = Place(place.kind, place.subfolder, numbered.prefix)
        if key not in series or series[key].number < numbered.number:
            series[key] = numbered
        series.move_to_end(key)
        while len(series) > self._most_series:
            series.popitem(last=False)

    def last_names(self, user: str) -> list[str]:
        """The last name of each of a person's series, as ``kind/subfolder/name``."""
        return [
            posixpath.join(key.kind, key.subfolder, numbered.with_number(numbered.number))
            for key, numbered in self._series.get(user, {}).items()
        ]


class Publisher:
    """Publishes the files of one job. For the event loop.

    Args:
        folders: where the job runs; absolute paths without links in them.
        count_frames: see ``Engine``.
    """

    def __init__(
        self,
        folders: Folders,
        transport: Transport,
        user: str,
        names: PublishedNames,
        count_frames: Callable[[Path], int],
    ) -> None:
        self._count_frames = count_frames
        self._folders = {"output": folders.output, "temp": folders.temp}
        self._transport = transport
        self._user = user
        self._names = names
        self._before = frozenset(names.last_names(user))
        self._staged: set[Place] = set()
        self._delivered: dict[Place, Place] = {}
        #: Images and frames of films that were delivered, without those for the moment.
        self.frames = 0

    def note_staged(self, kind: str, path: str) -> None:
        """A file that the job reads, by its path with ``/``: it is the person's already and is not delivered again."""
        place = PurePosixPath(path)
        self._staged.add(Place(kind, "" if place.parent == PurePosixPath() else str(place.parent), place.name))

    async def publish_outputs(self, outputs: Any) -> Any:
        """Deliver every file that a node's outputs name.

        Returns:
            The outputs with the names that the files have now.

        Raises:
            BlobError: when a file could not be delivered.
            OSError: as the file system does.
        """
        if isinstance(outputs, dict):
            if isinstance(outputs.get("filename"), str):
                return await self._publish_reference(outputs)
            return {key: await self.publish_outputs(value) for key, value in outputs.items()}
        if isinstance(outputs, (list, tuple)):
            return [await self.publish_outputs(value) for value in outputs]
        if isinstance(outputs, str):
            return await self._publish_string(outputs)
        return outputs

    async def publish_rest(self) -> None:
        """Deliver the output files that nodes wrote without declaring them.

        Raises:
            BlobError: when a file could not be delivered.
            OSError: as the file system does.
        """
        for subfolder, name in sorted(_files_below(self._folders["output"])):
            local = Place("output", subfolder, name)
            if not self._is_placeholder(local) and local not in self._staged:
                await self._deliver(local)

    def settle(self) -> None:
        """The job has ended with what was delivered. Raises OSError."""
        self._transport.settle()

    def forget(self) -> bool:
        """Name the files that were delivered in no later job, since they are taken back; whether there were any."""
        for local in self._delivered:
            self._names.forget(self._user, local)
        return bool(self._delivered)

    async def _publish_reference(self, reference: dict[str, Any]) -> dict[str, Any]:
        local = Place(
            str(reference.get("type", "output")), str(reference.get("subfolder") or ""), reference["filename"]
        )
        final = await self._final_place(local)
        rest = {
            key: value if key in ("filename", "subfolder", "type") else await self.publish_outputs(value)
            for key, value in reference.items()
        }
        if final is None:
            return rest
        rest["filename"] = final.name
        if "subfolder" in rest:
            rest["subfolder"] = final.subfolder
        return rest

    async def _publish_string(self, text: str) -> str:
        if not 0 < len(text) <= LONGEST_NAME or "." not in text or "\n" in text:
            return text
        annotated = _ANNOTATED.fullmatch(text)
        name, mark = (annotated[1], annotated[2]) if annotated else (text, "")
        for kind, root in self._folders.items():
            if annotated and annotated[3] != kind:
                continue
            path = PurePosixPath(name)
            if path.is_absolute():
                if not path.is_relative_to(root):
                    continue
                path = path.relative_to(root)
            subfolder = "" if path.parent == PurePosixPath() else str(path.parent)
            final = await self._final_place(Place(kind, subfolder, path.name))
            if final is not None:
                return final.path + mark
        return text

    async def _final_place(self, local: Place) -> Place | None:
        if local.kind not in self._folders:
            return None
        if local in self._staged:
            return local
        if not self._is_placeholder(local) and self._is_file_here(local):
            return await self._deliver(local)
        return self._names.get(self._user, local)

    async def _deliver(self, local: Place) -> Place:
        """Bring a file to the person, once; it stays in the job's folder, where later nodes may read it."""
        if local in self._delivered:
            return self._delivered[local]
        source = self._folders[local.kind] / local.subfolder / local.name
        name = await self._transport.deliver(local.kind, local.subfolder, local.name, source)
        final = Place(local.kind, local.subfolder, name)
        self._delivered[local] = final
        self._names.remember(self._user, local, final)
        if local.kind == "output":
            self.frames += await asyncio.to_thread(self._count_frames, source)
        return final

    def _is_placeholder(self, local: Place) -> bool:
        """Whether a name is one that numbering goes on from, and no node has written a file under it."""
        if f"{local.kind}/{local.path}" not in self._before:
            return False
        try:
            return (self._folders[local.kind] / local.path).stat().st_size == 0
        except OSError:
            return True

    def _is_file_here(self, local: Place) -> bool:
        root = str(self._folders[local.kind])
        try:
            path = os.path.realpath(os.path.join(root, local.subfolder, local.name))
            return path.startswith(root + os.sep) and os.path.isfile(path)
        except (OSError, ValueError):
            # Too long for a name, or with a NUL: no file of ours.
            return False


def _files_below(root: Path, subfolder: str = "") -> Iterator[tuple[str, str]]:
    """The subfolder (with ``/``) and the name of each file."""
    with os.scandir(root / subfolder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(root, f"{subfolder}/{entry.name}".lstrip("/"))
            elif entry.is_file(follow_symlinks=False):
                yield subfolder, entry.name
