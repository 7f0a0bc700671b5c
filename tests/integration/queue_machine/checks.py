"""What must hold after every step: the store is what the model says, and a few things that need no model."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from comfyume.job_queue.frontend_queue import MAXIMUM_LOSSES
from comfyume.job_queue.jobs import ClaimedJob

from .program import HISTORY_DAYS, told_of
from .store import LEASE_MS, Picture, waiting_claims
from .things import CATALOGUES, FINAL, KINDS, Job, in_order
from .workshop import Workshop

#: Families of keys of which the model knows all; others are counters, memos and texts.
MODELLED = (
    *("queued", "people", "lanes", "lane", "active", "history"),
    *("running", "lease", "orphans", "grace"),
    *("workers", "presence", "idle", "inbox", "reserved"),
)
#: The kind of the jobs of each lane.
KIND_OF = {kind.lane: name for name, kind in KINDS.items()}


def jobs_are_as_in_the_model(model: Workshop, picture: Picture) -> None:
    found = {job_id: _shown(fields) for job_id, fields in picture.jobs.items()}
    _same("the jobs", found, {job_id: _expected(job) for job_id, job in model.jobs.items()})


def _shown(fields: dict[str, str]) -> dict[str, Any]:
    return {
        "user": fields["user"],
        "lane": fields["lane"],
        "number": float(fields["number"]),
        "front": float(fields["rank"]) if "rank" in fields else None,
        "level": fields["level"],
        "state": fields["state"],
        "attempt": int(fields["attempt"]),
        "losses": [loss["worker"] for loss in json.loads(fields.get("losses", "[]"))],
        "claim": fields.get("claim"),
        "worker": fields.get("worker"),
        "held": "held" in fields,
        "cancel": "cancel" in fields,
        "secrets": "secrets" in fields,
        "result": "result" in fields,
    }


def _expected(job: Job) -> dict[str, Any]:
    return {
        "user": job.user,
        "lane": job.lane,
        "number": job.number,
        "front": job.front,
        "level": job.level,
        "state": job.state,
        "attempt": job.attempt,
        "losses": job.losses,
        "claim": job.claim,
        "worker": job.worker,
        "held": job.is_held,
        "cancel": job.is_cancelled,
        "secrets": not job.is_over,
        "result": job.has_result,
    }


def indexes_hold_what_the_model_says(model: Workshop, picture: Picture) -> None:
    found = {key: value for key, value in picture.held.items() if key.partition(":")[0] in MODELLED}
    for key, value in found.items():
        family = key.partition(":")[0]
        if family in ("queued", "history"):
            # The scores are times.
            found[key] = [member for member, _ in value]
        elif family == "inbox":
            found[key] = [told_of(ClaimedJob.from_inbox(item)) if item else None for item in value]
        elif family == "idle":
            found[key] = waiting_claims(value)
    if "queued" in found:
        found["queued"] = set(found["queued"])
    _same("the indexes", found, {key: value for key, value in _indexes(model).items() if value})


def _indexes(model: Workshop) -> dict[str, Any]:
    jobs = list(model.jobs.values())
    indexes: dict[str, Any] = {
        "queued": {job.job_id for job in jobs if job.state == "queued"},
        "running": {job.job_id for job in jobs if job.is_running},
        "orphans": model.orphans,
        "grace": "1" if model.is_grace else None,
        "workers": model.listed,
        "idle": {worker: (request.claim, request.room) for worker, request in model.idle.items()},
        "reserved": model.policy.reserved,
    }
    indexes |= {f"lease:{job_id}": claim for job_id, claim in model.leases.items()}
    indexes |= {f"presence:{worker}": model.records[worker].instance for worker in model.present}
    indexes |= {f"inbox:{worker}": items for worker, items in model.inboxes.items()}
    for user in {job.user for job in jobs}:
        indexes[f"active:{user}"] = [(job.job_id, job.rank) for job in model.active(user)]
        indexes[f"history:{user}"] = [job_id for _, job_id in sorted(model.history[user])]
    return indexes | _lanes(model.standing())


def _lanes(standing: list[Job]) -> dict[str, list[tuple[str, float]]]:
    """Jobs in lanes, lanes of people, people of levels: each at the rank of its first entry."""
    lanes: dict[str, list[Job]] = defaultdict(list)
    lanes_of: dict[str, dict[str, float]] = defaultdict(dict)
    people: dict[str, dict[str, float]] = defaultdict(dict)
    for job in in_order(standing):
        lanes[f"lane:{job.level}:{job.user}:{job.lane}"].append(job)
        lanes_of[f"lanes:{job.level}:{job.user}"].setdefault(job.lane, job.rank)
        people[f"people:{job.level}"].setdefault(job.user, job.rank)
    indexes = {key: [(job.job_id, job.rank) for job in jobs] for key, jobs in lanes.items()}
    for key, firsts in (lanes_of | people).items():
        indexes[key] = sorted(firsts.items(), key=lambda entry: (entry[1], entry[0]))
    return indexes


def workers_are_as_in_the_model(model: Workshop, picture: Picture) -> None:
    names = ("instance", "catalogue", "claim", "job", "loaded")
    found = {worker: {name: fields.get(name) for name in names} for worker, fields in picture.family("worker").items()}
    expected = {worker: {name: getattr(record, name) for name in names} for worker, record in model.records.items()}
    _same("the workers", found, expected)


def each_end_is_in_the_ledger_once(model: Workshop, picture: Picture) -> None:
    """Also of those that were deleted from a history since."""
    found = Counter((entry["job"], entry["user"], entry["state"]) for entry in picture.held.get("ledger", []))
    assert found == model.ends, f"in the ledger {found}, in the model {model.ends}"


def a_job_is_in_one_place(picture: Picture) -> None:
    """No job is both queued and claimed, or stands twice; whoever has ended is nowhere."""
    queued = {job_id for job_id, _ in picture.held.get("queued", [])}
    running = picture.held.get("running", set())
    in_lanes = [job_id for jobs in picture.family("lane").values() for job_id, _ in jobs]
    assert not queued & running, f"both queued and claimed: {queued & running}"
    assert len(in_lanes) == len(set(in_lanes)), f"in two lanes: {in_lanes}"
    assert set(in_lanes) <= queued, f"in a lane and not queued: {set(in_lanes) - queued}"
    active = [job_id for jobs in picture.family("active").values() for job_id, _ in jobs]
    assert sorted(active) == sorted(queued | running), f"active {active}, queued {queued}, running {running}"
    for job_id, fields in picture.jobs.items():
        if fields["state"] in FINAL:
            assert job_id not in active, f"{job_id} has ended and is active"
        else:
            is_free = job_id in queued and "held" not in fields
            assert (job_id in in_lanes) == is_free, f"{job_id} is {fields} and in the lanes {in_lanes}"


def a_job_is_lost_so_often_and_no_more(picture: Picture) -> None:
    for job_id, fields in picture.jobs.items():
        losses = int(fields.get("lost", 0))
        assert (fields["state"] == "quarantined") <= (losses == MAXIMUM_LOSSES), f"{job_id} quarantined: {fields}"
        may_go_on = fields["state"] in ("queued", "claimed", "running")
        assert losses < MAXIMUM_LOSSES or not may_go_on, f"{job_id} goes on: {fields}"
        assert losses <= int(fields["attempt"]), f"{job_id} was lost more often than claimed: {fields}"


def kinds_are_as_in_the_model(model: Workshop, picture: Picture) -> None:
    """What runs have shown of the memory that they took."""
    found = {
        KIND_OF[lane]: int(fields["memory"]) for lane, fields in picture.family("kind").items() if "memory" in fields
    }
    expected = {kind: learned.peak for kind, learned in model.ledger.kinds.items() if learned.peak is not None}
    _same("the peaks", found, expected)


def nobody_waits_beside_work(model: Workshop, picture: Picture) -> None:
    """No live worker waits while there is a job that it may run and has room for, unless others have its models loaded.

    So it is after a sweep that had nothing to hand out, and if it is for the models, not for longer than the bound.
    """
    if model.policy.is_paused:
        return
    for worker, request in picture.held.get("idle", {}).items():
        if f"presence:{worker}" not in picture.held:
            continue
        asked = json.loads(request)
        only = model.policy.reserved.get(worker)
        for fields in _first_jobs_for(asked, only, picture):
            assert not only, f"{worker} waits beside {fields}, for whose user it is reserved"
            assert fields["level"] != "front", f"{worker} waits beside {fields}, which is ahead of all"
            models = _kind(picture, fields).get("models")
            others = [
                name
                for name, record in picture.family("worker").items()
                if name != worker and record.get("loaded") == models and "drained" not in record
            ]
            assert models, f"{worker} waits beside {fields}, for which nothing is to be loaded"
            assert picture.held["workers"].intersection(others), f"{worker} leaves {fields} to nobody"
            noted = picture.held.get("passed", {}).get(f"{fields['level']}:{fields['user']}:{fields['lane']}")
            assert noted is not None, f"{worker} leaves {fields} to others, and that is not noted"
            passed = model.ledger.now_ms - int(noted)
            assert passed < model.policy.affinity_ms, f"{worker} leaves {fields} to others for {passed} ms"


def _kind(picture: Picture, fields: dict[str, str]) -> dict[str, str]:
    """What is known of a job's kind; of the plainest that is nothing until one has run."""
    kind: dict[str, str] = picture.family("kind").get(fields["lane"], {})
    return kind


def _first_jobs_for(asked: dict[str, Any], only: str | None, picture: Picture) -> list[dict[str, str]]:
    """The first job of each person at each level that a waiting worker may run."""
    standing = [fields for fields in picture.jobs.values() if fields["state"] == "queued" and "held" not in fields]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for fields in sorted(standing, key=lambda fields: (float(fields.get("rank", fields["number"])), fields["lane"])):
        kind = _kind(picture, fields)
        need = kind.get("stated") or kind.get("memory") or kind.get("estimate") or 0
        has_room = asked["room"] == "" or int(need) <= int(asked["room"])
        is_able = KINDS[KIND_OF[fields["lane"]]].needs <= CATALOGUES[asked["catalogue"]]
        if is_able and has_room and only in (None, fields["user"]):
            found.setdefault((fields["level"], fields["user"]), fields)
    return list(found.values())


def what_must_end_ends(picture: Picture) -> None:
    """Leases and signs of life end by themselves, and so does what is kept of an ended job; a live job stays."""
    for key, ttl in picture.ends.items():
        family, _, name = key.partition(":")
        if family in ("lease", "presence", "inbox"):
            assert 0 <= ttl <= LEASE_MS, f"{key} lives for {ttl} ms"
        elif family == "job":
            is_over = picture.jobs[name]["state"] in FINAL
            assert (0 <= ttl <= HISTORY_DAYS * 86_400_000) if is_over else ttl == -1, f"{key} lives for {ttl} ms"


def _same(what: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    if found == expected:
        return
    lines = [
        f"  {key}: the store has {found.get(key)!r}, the model {expected.get(key)!r}"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]
    raise AssertionError("\n".join([f"{what} are not what the model says", *lines]))
