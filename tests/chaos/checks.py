"""The checkers: each takes what happened and returns a sentence for everything that the guarantees rule out."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from .record import Entry, History

FINAL = ("done", "error", "cancelled", "quarantined")
#: Lost workers after which a job is given up.
MOST_LOSSES = 3


def acknowledged(history: History) -> list[str]:
    """The jobs whose submit the store has acknowledged."""
    return sorted({entry.job for entry in history.of("submit") if "error" not in entry.data})


def none_lost(history: History) -> list[str]:
    """Every acknowledged job has ended, and its end can be read."""
    final = {entry.job: entry for entry in history.of("final")}
    found = []
    for job in acknowledged(history):
        state = final[job].data["state"] if job in final else ""
        if state not in FINAL:
            found.append(f"job {job} was acknowledged and is {state or 'missing'} at the end")
        elif state != "cancelled" and not final[job].data["listed"]:
            found.append(f"job {job} is {state} but not in its user's history")
    return found


def ended_once(history: History) -> list[str]:
    """No job was told to have ended twice, nor to have ended otherwise than it did."""
    final = {entry.job: entry.data["state"] for entry in history.of("final")}
    found = []
    for job, entries in history.by_job("batch", "lost").items():
        ends = [entry.data["ends"] for entry in entries if entry.data["ends"]]
        if len(ends) > 1:
            found.append(f"job {job} ended {len(ends)} times: {', '.join(ends)}")
        elif ends and ends[0] != final.get(job, ends[0]):
            found.append(f"job {job} was told to be {ends[0]} and is {final[job] or 'missing'}")
    return found


def none_stale(history: History) -> list[str]:
    """What is told of a job comes from its newest attempt, and nothing comes behind its end."""
    found = []
    for job, entries in history.by_job("batch").items():
        for earlier, later in pairwise(entries):
            if later.data["attempt"] < earlier.data["attempt"]:
                found.append(
                    f"job {job}: attempt {later.data['attempt']} was heard behind attempt {earlier.data['attempt']}"
                )
            elif earlier.data["ends"]:
                found.append(f"job {job}: attempt {later.data['attempt']} was heard behind the end")
    return found


def files_right(history: History) -> list[str]:
    """Every ``done`` job names its files, each of them whole and of the attempt that won, and nobody else's."""
    files = {entry.data["name"]: entry for entry in history.of("file")}
    wanted = {entry.job: entry.data["files"] for entry in history.of("submit")}
    owner: dict[str, str] = {}
    found = [
        f"file {entry.data['name']} is not what a job wrote" for entry in files.values() if not entry.data["right"]
    ]
    for entry in history.of("final"):
        if entry.data["state"] != "done":
            continue
        names = published_names(entry)
        if len(names) != wanted[entry.job]:
            found.append(f"job {entry.job} is done and names {len(names)} files, not {wanted[entry.job]}")
        for name in names:
            file = files.get(name)
            if name in owner:
                found.append(f"file {name} is named by job {entry.job} and by job {owner[name]}")
            owner[name] = entry.job
            if file is None:
                found.append(f"job {entry.job} is done and names {name}, which is not there")
            elif file.job != entry.job or file.data["claim"] != entry.data["claim"]:
                found.append(f"job {entry.job} is done and names {name}, which another job or attempt wrote")
    return found


def winners_published(history: History) -> list[str]:
    """The result of a ``done`` job is the one of the claim that the store has for it."""
    found = []
    for entry in history.of("final"):
        if entry.data["state"] == "done":
            said = entry.data["result"]["outputs"].get("1", {}).get("claim", [])
            if said != [entry.data["claim"]]:
                found.append(f"job {entry.job} has the result of claim {said}, but claim {entry.data['claim']} won")
    return found


def left_behind(history: History) -> list[str]:
    """Files at the people's that no job's result names, such as those of a lost attempt."""
    named = {name for entry in history.of("final") for name in published_names(entry)}
    return [
        f"file {entry.data['name']} of job {entry.job} is named by no result"
        for entry in history.of("file")
        if entry.data["name"] not in named
    ]


def published_names(final: Entry) -> list[str]:
    """The files that a job's result names."""
    outputs = final.data["result"].get("outputs", {})
    return [image["filename"] for node in outputs.values() for image in node.get("images", [])]


def sound(history: History) -> list[str]:
    """What holds after every kind of fault: jobs end, once, by one attempt, with the files that they name."""
    return [
        *none_lost(history),
        *ended_once(history),
        *none_stale(history),
        *winners_published(history),
        *files_right(history),
    ]


def losses_have_a_cause(history: History, most: int) -> list[str]:
    """Jobs were not taken from workers more often than something was done to a worker, each of which has one job.

    Args:
        most: how often something was done.
    """
    losses = {entry.job: int(entry.data["lost"] or 0) for entry in history.of("final")}
    found = [
        f"job {entry.job} was given up after {losses[entry.job]} losses"
        for entry in history.of("final")
        if entry.data["state"] == "quarantined" and losses[entry.job] != MOST_LOSSES
    ]
    if sum(losses.values()) > most:
        found.append(f"jobs lost {sum(losses.values())} workers, but only {most} were harmed")
    return found


def story(history: History, job: str) -> str:
    """What happened to a job, for a person who looks into a violation."""
    entries = [entry for entry in history if entry.job == job]
    start = min((entry.start for entry in entries), default=0.0)
    return "\n".join(f"  {entry.start - start:8.3f} {entry.what} {_brief(entry)}" for entry in _in_time(entries))


def _in_time(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.start)


def _brief(entry: Entry) -> str:
    return " ".join(f"{name}={str(value)[:80]}" for name, value in entry.data.items() if name != "names")
