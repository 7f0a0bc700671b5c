"""How the workshop went: samples of its queue and its GPUs over the last hours, in the store.

Any frontend may sample; the store lets one of them do it each time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import redis.asyncio

from .connection import store_errors
from .keys import Keys

#: Seconds between two samples.
PAUSE = 15
#: Samples that are kept, the last ones: a day.
MOST_SAMPLES = 24 * 3600 // PAUSE


@dataclass(frozen=True)
class Sample:
    """The workshop at one moment.

    Attributes:
        queued: jobs that wait, held ones too.
        gpu_use: of all workers, in percent; None where nobody can tell.
        vram_used: of all workers, in bytes.
    """

    queued: int
    running: int
    workers: int
    gpu_use: float | None
    vram_used: int
    vram_total: int


class Series:
    """The samples. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys

    async def is_due(self) -> bool:
        """Whether a sample is to be taken, by whoever asks first."""
        with store_errors():
            return bool(await self._client.set(self._keys.sampled, b"1", nx=True, px=PAUSE * 1000 - 500))

    async def add(self, sample: Sample) -> None:
        """Keep a sample under the store's time."""
        with store_errors():
            await self._client.xadd(
                self._keys.series, {"sample": json.dumps(asdict(sample))}, maxlen=MOST_SAMPLES, approximate=True
            )

    async def since(self, moment: float) -> list[tuple[float, Sample]]:
        """The samples since a moment, with when each was taken, in Unix seconds."""
        with store_errors():
            rows = await self._client.xrange(self._keys.series, str(int(moment * 1000)), "+")
        return [(int(entry.split(b"-")[0]) / 1000, Sample(**json.loads(row[b"sample"]))) for entry, row in rows]
