"""What people in a workshop ask for: generated plans of prompts, each with its model and its length."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from comfyume.benchmarks.simulator.recording import Prompt

HOUR = 3600.0


@dataclass(frozen=True)
class Model:
    """Weights that must be in the GPU's memory.

    Attributes:
        load: seconds to load it in place of another one.
    """

    name: str
    load: float


@dataclass(frozen=True)
class Kind:
    """A sort of prompt.

    Attributes:
        seconds: how long one takes at the median, with its model loaded.
        spread: the sigma of the logarithm of that time.
        share: how often it is asked for, relative to the others.
        think: seconds a person looks at the result before the next one, at the median.
        batch: most prompts queued in one go.
        sizes: width, height, and frames of a video.
    """

    name: str
    model: Model
    seconds: float
    spread: float
    share: float
    think: float
    batch: int
    sizes: str


KLEIN_4B = Model("flux-2-klein-4b", 15.0)
KLEIN_9B = Model("flux-2-klein-9b", 30.0)
LTX_2 = Model("ltx-2-19b", 90.0)
#: Times as on one GPU with 48 GiB, rounded. They set the proportions; the policies are compared, not the GPU.
KINDS = (
    Kind("image, Klein 4B", KLEIN_4B, 6.0, 0.3, 5.0, 90.0, 4, "1024x1024"),
    Kind("image, Klein 9B", KLEIN_9B, 12.0, 0.3, 4.0, 120.0, 4, "1024x1024"),
    Kind("video, LTX-2", LTX_2, 150.0, 0.5, 1.0, 600.0, 1, "768x512x121"),
)


@dataclass(frozen=True)
class Batch:
    """Prompts that a person queues at once, having looked at the results of the last ones for a while.

    Attributes:
        think: seconds since the last of their prompts has ended.
        seconds: how long each prompt runs with its model loaded.
    """

    think: float
    kind: Kind
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Workshop:
    """A generated workshop, in which everybody waits for their results before they ask for more.

    Attributes:
        people: how many take part.
        days: days of ``hours`` each; nights are left out.
        flood: prompts that the first person queues at once, in the middle of each day, besides all else.
    """

    people: int = 20
    days: int = 3
    hours: float = 8.0
    flood: int = 0
    seed: int = 1

    @property
    def seconds(self) -> float:
        """Length of the whole workshop."""
        return self.days * self.hours * HOUR

    def users(self) -> list[str]:
        """Names of the people; the first one floods, if anybody does."""
        return [f"user{number + 1:03}" for number in range(self.people)]

    def plan_of(self, user: str) -> Iterator[Batch]:
        """What a person asks for, without an end: they work on one thing for a while, then on another."""
        chosen = random.Random(f"{self.seed} {user}")  # noqa: S311 - guards nothing
        think = chosen.uniform(0, 600)
        while True:
            kind = chosen.choices(KINDS, [kind.share for kind in KINDS])[0]
            for _ in range(chosen.randint(3, 12)):
                count = chosen.randint(1, kind.batch)
                yield Batch(think, kind, tuple(_around(chosen, kind.seconds, kind.spread) for _ in range(count)))
                think = _around(chosen, kind.think, 0.6)

    def floods(self) -> list[tuple[float, Batch]]:
        """What the first person queues besides, and at which second."""
        chosen = random.Random(f"{self.seed} flood")  # noqa: S311 - guards nothing
        kind = KINDS[1]
        return [
            (
                (day + 0.5) * self.hours * HOUR,
                Batch(0, kind, tuple(_around(chosen, kind.seconds, kind.spread) for _ in range(self.flood))),
            )
            for day in range(self.days if self.flood else 0)
        ]


class Crowd:
    """The people of a generated workshop: they ask for more when they have got what they asked for.

    Args:
        work: how often each of them asks before they go home, as ``asks`` of another crowd tells; whoever floods has by
            then asked for the same share of it. Without it they go home when the hours of the workshop are over.

    Attributes:
        asks: how often each person has asked for something, a batch at a time.
    """

    def __init__(self, workshop: Workshop, work: Mapping[str, int] | None = None) -> None:
        self.asks: Counter[str] = Counter()
        self._workshop = workshop
        self._work = work
        self._plans = {user: workshop.plan_of(user) for user in workshop.users()}
        self._awaited: Counter[str] = Counter()
        self._floods = workshop.floods()
        self._flooded = 0
        self._besides: set[Prompt] = set()

    def begin(self) -> Iterable[Prompt]:
        """What is asked for before anything was done."""
        if self._work is None:
            for at, batch in self._floods:
                yield from self._flood(batch, at)
        for user in self._plans:
            yield from self._next(user, 0)

    def after(self, ended: Prompt, now: float) -> Iterable[Prompt]:
        """What is asked for because this prompt has ended."""
        if ended in self._besides:
            return
        self._awaited[ended.user] -= 1
        if self._awaited[ended.user] == 0:
            yield from self._next(ended.user, now)

    def _next(self, user: str, now: float) -> Iterable[Prompt]:
        batch = next(self._plans[user])
        if self._goes_home(user, now + batch.think):
            return
        self.asks[user] += 1
        prompts = _prompts(user, batch, now + batch.think)
        self._awaited[user] += len(prompts)
        yield from prompts
        if self._work is not None and user == self._workshop.users()[0]:
            yield from self._flood_in_time(now + batch.think)

    def _goes_home(self, user: str, at: float) -> bool:
        if self._work is None:
            return at >= self._workshop.seconds
        return self.asks[user] >= self._work[user]

    def _flood_in_time(self, at: float) -> Iterable[Prompt]:
        """The next flood, if the person who floods has asked for the share of their work that belongs before it."""
        for due, batch in self._floods[self._flooded : self._flooded + 1]:
            user = self._workshop.users()[0]
            if self._work is not None and self.asks[user] >= self._work[user] * due / self._workshop.seconds:
                self._flooded += 1
                yield from self._flood(batch, at)

    def _flood(self, batch: Batch, at: float) -> Iterable[Prompt]:
        prompts = _prompts(self._workshop.users()[0], batch, at)
        self._besides.update(prompts)
        return prompts


def _prompts(user: str, batch: Batch, at: float) -> list[Prompt]:
    kind = batch.kind
    return [
        Prompt(at, user, kind.name, (kind.model.name,), kind.model.load, kind.sizes, seconds)
        for seconds in batch.seconds
    ]


def _around(chosen: random.Random, median: float, spread: float) -> float:
    return median * chosen.lognormvariate(0, spread)
