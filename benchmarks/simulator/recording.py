"""What was asked for in a workshop, and when, as a file: a line of JSON about the workshop, then one for each prompt.

Played again, the same prompts come at the same times whatever the policy, so policies are compared over the same work.
The fields are such that the history of a real workshop has them: a job's times, its person, and what the store has
learned of its kind. docs/simulation.md describes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

#: What the first line says that the file is. Another number is another format.
FORMAT = 1

T = TypeVar("T")


class UnreadableRecording(ValueError):
    """The file is not a recording of a workshop; see docs/simulation.md for what one is made of."""


@dataclass(frozen=True)
class Prompt:
    """One prompt; times in seconds since the workshop began.

    Attributes:
        at: when it was submitted.
        kind: what sort of graph it is; prompts of one kind need the same nodes.
        models: what a worker must have in the GPU's memory for it.
        load: seconds to load these models in place of others.
        sizes: the numbers in the graph that decide about memory and time, as one word.
        runs: seconds that it runs, with its models loaded.
        cancelled: when its person cancelled it; None if they did not.
    """

    at: float
    user: str
    kind: str
    models: tuple[str, ...]
    load: float
    sizes: str
    runs: float
    cancelled: float | None = None


@dataclass(frozen=True)
class Recording:
    """A workshop's prompts in the order in which they were submitted.

    Attributes:
        flooding: people whose waits are left out of comparisons, since they queued far more than anybody else.
    """

    prompts: tuple[Prompt, ...]
    flooding: tuple[str, ...] = ()

    @classmethod
    def of(cls, prompts: Iterable[Prompt], flooding: Iterable[str] = ()) -> Recording:
        """With times to the millisecond, as the file has them."""
        rounded = [replace(prompt, at=round(prompt.at, 3), runs=round(prompt.runs, 3)) for prompt in prompts]
        return cls(tuple(sorted(rounded, key=lambda prompt: prompt.at)), tuple(flooding))

    def begin(self) -> Iterable[Prompt]:
        """All of them: nobody waits for anything before they ask."""
        return self.prompts

    def after(self, _ended: Prompt, _now: float) -> Iterable[Prompt]:
        """Nothing: what is asked for does not depend on what was done."""
        return ()

    def write(self, path: Path) -> None:
        """Write the file."""
        lines: list[dict[str, Any]] = [{"recording": FORMAT, "flooding": self.flooding}]
        lines += [
            {name: value for name, value in asdict(prompt).items() if value is not None} for prompt in self.prompts
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a file.

        Raises:
            UnreadableRecording: it is none, or one of another format; tells the line.
        """
        lines = path.read_text(encoding="utf-8").splitlines()
        head = _parsed(path, 1, lines[0] if lines else "", lambda line: (line["recording"], line.get("flooding", ())))
        if head[0] != FORMAT:
            raise UnreadableRecording(f"{path} has format {head[0]}; this program reads {FORMAT}")
        return cls.of((_parsed(path, number, line, _prompt) for number, line in enumerate(lines[1:], 2)), head[1])


def _parsed(path: Path, number: int, line: str, what: Callable[[dict[str, Any]], T]) -> T:
    try:
        return what(json.loads(line))
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableRecording(f"line {number} of {path} cannot be read: {error!r}") from error


def _prompt(line: dict[str, Any]) -> Prompt:
    known = {field.name for field in fields(Prompt)}
    # An export may say more of a prompt than is played.
    return Prompt(**{name: value for name, value in line.items() if name in known} | {"models": tuple(line["models"])})
