"""What the workers can run: node definitions, models, and the scripts that their node packs give to browsers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import redis.asyncio

from .connection import store_errors
from .keys import Keys

#: Seconds that a catalogue which no worker announces any more is kept, so that a restarted room knows its nodes.
KEEP = 30 * 86_400


@dataclass(frozen=True)
class Catalogue:
    """What one worker can run; named by its content.

    Attributes:
        nodes: ComfyUI's definition of each node class, as ``/object_info`` shows it.
        folders: for each node class, the model folders whose files its inputs offer.
        checked_by_worker: node classes that check their inputs with code of their own.
        models: files of each model folder.
        sizes: bytes of each model, by ``FOLDER/FILE``.
        extensions: for each node pack that has browser scripts, the SHA-256 of each of its files by path.
        lists: for each node class, the inputs that offer the files of a model folder, and which.
    """

    nodes: dict[str, Any]
    folders: dict[str, list[str]]
    checked_by_worker: frozenset[str]
    models: dict[str, list[str]]
    extensions: dict[str, dict[str, str]]
    sizes: dict[str, int] = field(default_factory=dict)
    lists: dict[str, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def encoded(self) -> bytes:
        """Compressed JSON. Names are sorted, but not what is in a definition: a node's inputs have an order."""
        value = {
            "nodes": _sorted(self.nodes),
            "folders": _sorted(self.folders),
            "checked_by_worker": sorted(self.checked_by_worker),
            "models": _sorted(self.models),
            "sizes": _sorted(self.sizes),
            "lists": _sorted(self.lists),
            "extensions": _sorted({pack: _sorted(files) for pack, files in self.extensions.items()}),
        }
        return zlib.compress(json.dumps(value).encode(), 6)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the encoded catalogue."""
        return hashlib.sha256(self.encoded).hexdigest()

    @classmethod
    def decode(cls, encoded: bytes) -> Catalogue:
        """Read an encoded catalogue."""
        value = json.loads(zlib.decompress(encoded))
        return cls(
            value["nodes"],
            value["folders"],
            frozenset(value["checked_by_worker"]),
            value["models"],
            value["extensions"],
            value.get("sizes", {}),
            value.get("lists", {}),
        )

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """What jobs can need of this catalogue."""
        return frozenset(
            [f"node:{name}" for name in self.nodes]
            + [f"model:{folder}/{file}" for folder, files in self.models.items() for file in files]
        )

    def counts(self) -> tuple[int, int]:
        """How many nodes and models it has."""
        return len(self.nodes), sum(map(len, self.models.values()))


def _sorted(named: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(named.items()))


class CatalogueStore:
    """Catalogues on the store, for the event loop. Methods raise what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys

    async def store(self, catalogue: Catalogue) -> None:
        """Keep a catalogue; compressing it takes a thread."""
        encoded = await asyncio.to_thread(lambda: catalogue.encoded)
        with store_errors():
            if not await self._client.exists(self._keys.catalogue(catalogue.digest)):
                await self._client.set(self._keys.catalogue(catalogue.digest), encoded)
            await self._client.expire(self._keys.catalogue(catalogue.digest), KEEP)

    async def load(self, digest: str) -> Catalogue | None:
        """Read a catalogue; None when it is gone."""
        with store_errors():
            encoded = await self._client.get(self._keys.catalogue(digest))
        return await asyncio.to_thread(Catalogue.decode, encoded) if encoded is not None else None

    async def store_script(self, sha256: str, content: bytes) -> None:
        """Keep a browser script of a node pack."""
        with store_errors():
            await self._client.set(self._keys.script_file(sha256), content, ex=KEEP)

    async def load_script(self, sha256: str) -> bytes | None:
        """Read a browser script of a node pack."""
        with store_errors():
            content: bytes | None = await self._client.get(self._keys.script_file(sha256))
        return content

    async def live(self) -> dict[str, dict[str, Any]]:
        """The live workers by name: their description, their catalogue's digest, the job they run."""
        with store_errors():
            names = sorted(name.decode() for name in await self._client.smembers(self._keys.workers))
            pipeline = self._client.pipeline(transaction=False)
            for name in names:
                pipeline.hmget(self._keys.worker(name), "description", "catalogue", "job", "drained")
            rows = await pipeline.execute() if names else []
        return {
            name: {
                "description": json.loads(row[0]),
                "catalogue": row[1].decode(),
                "job": row[2] and row[2].decode(),
                "drained": row[3] is not None,
            }
            for name, row in zip(names, rows, strict=True)
            if row[0] is not None and row[1] is not None
        }

    async def last_known(self) -> list[str]:
        """Digests of the catalogues that were seen last, for a room whose workers are all away."""
        with store_errors():
            return [digest.decode() for digest in await self._client.lrange(self._keys.catalogues_seen, 0, 7)]

    async def note_seen(self, digests: list[str]) -> None:
        """Remember which catalogues were live last."""
        if not digests:
            return
        with store_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.delete(self._keys.catalogues_seen)
            pipeline.rpush(self._keys.catalogues_seen, *digests)
            await pipeline.execute()
