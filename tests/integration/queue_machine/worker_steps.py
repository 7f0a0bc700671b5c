"""Steps of workers: processes that claim, work, say nothing, come back, and those that were taken for lost."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from comfyume.job_queue.jobs import GIB, ClaimedJob
from comfyume.job_queue.worker_queue import NotRegistered, UpcomingClaim, WorkerIdentity

from .constants import USUAL_AFFINITY_MS
from .program import DirectReports, ImpatientClaims, claim_answer, told_of
from .stage import PICK, Process, Stage, Ticket
from .store import LEASE, LEASE_MS
from .things import CATALOGUES, WORKERS, Request, Short, Told

ENDS = st.sampled_from(["done", "done", "done", "error", "cancelled"])
HEARS = st.sampled_from([True, True, True, False])
#: Bytes that a job may need, and that one took.
ROOM = st.sampled_from([None, None, None, 40 * GIB, 12 * GIB, 6 * GIB, 6 * GIB - 1])
PEAK = st.sampled_from([None, *(gib * GIB + 3 for gib in (4, 10, 20))])
#: Milliseconds that a job takes.
TIME = st.sampled_from([500, 4_000, 4_000, 45_000, USUAL_AFFINITY_MS // 2 + 1])


class Shift(NamedTuple):
    """What a worker does next: it ends its job, and ``goes_on`` with another, or it claims one."""

    pick: int
    ends: str
    ms: int
    peak: int | None
    room: int | None
    goes_on: bool
    hears: bool


SHIFT = st.builds(Shift, PICK, ENDS, TIME, PEAK, ROOM, st.booleans(), HEARS)


class WorkerSteps(Stage):
    """Processes claim with the program's own ``Claims``. Any claim that one ever had may speak up at any later time."""

    def free(self) -> list[Process]:
        return [process for process in self.processes.values() if process.has is None]

    def busy(self) -> list[Ticket]:
        return [process.has for process in self.processes.values() if process.has is not None]

    def overtaken(self) -> list[Ticket]:
        """Those whose job runs under another claim now; they could do the most harm."""
        running = {job.job_id: job.claim for job in self.model.jobs.values() if job.is_running}
        return [
            ticket for ticket in self.tickets if running.get(ticket.job.job_id, ticket.job.claim) != ticket.job.claim
        ]

    def given(self, process: Process, job: ClaimedJob | None) -> None:
        process.has = Ticket(process, job) if job else None
        if process.has:
            self.tickets.append(process.has)

    @rule(pick=PICK, former_is_dead=st.booleans())
    def a_worker_comes(self, pick: int, former_is_dead: bool) -> None:
        away = [worker for worker in WORKERS if worker not in self.processes]
        self.start(self.pick(pick, away or list(WORKERS)), former_is_dead=former_is_dead)

    def start(self, worker: str, *, former_is_dead: bool) -> None:
        """A new process takes the worker's name, unless one lives that has it."""
        identity = WorkerIdentity(worker, uuid.uuid4().hex, LEASE)
        claims = ImpatientClaims(self.store, self.url, identity)
        process = Process(identity, claims, DirectReports(self.store, identity))
        if self.register(process, former_is_dead=former_is_dead) == "ok":
            self.processes[worker] = process

    @precondition(lambda self: self.processes)
    @rule(pick=PICK)
    def register_again(self, pick: int) -> None:
        self.register(self.pick(pick, list(self.processes.values())), former_is_dead=False)

    def register(self, process: Process, *, former_is_dead: bool) -> str:
        who, catalogue = (process.name, process.instance), process.catalogue
        call = process.reports.register(
            {"host": "h", "pid": 1}, catalogue, CATALOGUES[catalogue], former_is_dead=former_is_dead
        )
        found = self.answer(process.reports, call)[0].decode()
        expected = self.model.register(*who, catalogue, former_is_dead=former_is_dead)
        self.agree("register", found, expected)
        return expected

    @precondition(lambda self: self.processes)
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        process = self.processes.pop(self.pick(pick, list(self.processes)))
        found = self.answer(process.reports, process.reports.leave()).decode()
        expected = self.model.leave(process.name, process.instance)
        assert found == expected, f"leave gave back {found}, the model {expected}"
        self.tally["leave: job" if expected else "leave"] += 1

    @precondition(lambda self: self.processes)
    @rule(shifts=st.lists(SHIFT, min_size=1, max_size=6))
    def work(self, shifts: list[Shift]) -> None:
        """Workers do what is next. Some at once, so that something comes of it."""
        for shift in shifts:
            self.do(self.pick(shift.pick, list(self.processes.values())), shift)
            self.agree_on_everything()

    def do(self, process: Process, shift: Shift) -> None:
        if process.has is None:
            self.claim(process, shift.room)
        else:
            self.store.let_pass(shift.ms)
            following = self.request_of(process, shift.room) if shift.goes_on else None
            self.finish(process.has, shift.ends, shift.peak, following, hears=shift.hears)

    def request_of(self, process: Process, room: int | None) -> Request:
        upcoming = process.claims.upcoming
        return Request(upcoming.claim, upcoming.turn, process.catalogue, room)

    def claim(self, process: Process, room: int | None) -> None:
        request, asks = self.request_of(process, room), not process.claims.is_waiting
        if asks:
            self.asked.append((process, request))
        job = None
        found: Told | Short | str
        try:
            job = process.claims.next(process.catalogue, 0, room)
            short = process.claims.short
            found = told_of(job) if job else Short(short) if short is not None else "nothing"
        except NotRegistered:
            found = "unknown"
        self.see()
        self.agree("claim", found, self.expected_claim(process, request, asks=asks))
        self.given(process, job)
        if found == "unknown":
            self.register(process, former_is_dead=False)

    def expected_claim(self, process: Process, request: Request, *, asks: bool) -> Told | Short | str:
        """What ``Claims.next`` is to come back with: an answer to its question, or what lies in the inbox."""
        answer: Told | Short | str = "waits"
        if asks:
            answer = self.model.claim(process.name, process.instance, request)
            if isinstance(answer, Told | Short) or answer == "unknown":
                return answer
        handed = self.model.take_from_inbox(process.name)
        # After a spent one it has a new claim id, under which nothing can have come.
        is_won = handed is not None and answer != "spent" and handed.claim == request.claim
        return handed if handed is not None and is_won else "nothing"

    @precondition(lambda self: any(process.claims.short is not None for process in self.free()))
    @rule(pick=PICK)
    def no_more_room_can_be_made(self, pick: int) -> None:
        """Without this step a worker that is short asks again, with another room."""
        self.pick(
            pick, [process for process in self.free() if process.claims.short is not None]
        ).claims.wait_though_short()

    @precondition(lambda self: any(not process.claims.is_waiting for process in self.free()))
    @rule(pick=PICK, room=ROOM)
    def claim_and_hear_nothing(self, pick: int, room: int | None) -> None:
        process = self.pick(pick, [process for process in self.free() if not process.claims.is_waiting])
        request = self.request_of(process, room)
        self.request(process, request)
        self.asked.append((process, request))

    @precondition(lambda self: self.asked)
    @rule(pick=PICK)
    def an_old_request_arrives(self, pick: int) -> None:
        self.request(*self.pick(pick, self.asked[::-1]))

    def request(self, process: Process, request: Request) -> None:
        upcoming = UpcomingClaim(request.claim, request.turn)
        reply = process.claims.ask_unheard(request.catalogue, upcoming, request.room)
        self.see()
        self.agree("request", claim_answer(reply), self.model.claim(process.name, process.instance, request))

    def finish(self, ticket: Ticket, ends: str, peak: int | None, following: Request | None, *, hears: bool) -> None:
        """A worker that hears no answer has its job still, and says so again."""
        reply = self.end(ticket, ends, peak, following)
        if hears:
            answer = reply[1:] if reply[0] == b"ok" else [b"none"]
            self.given(ticket.process, ticket.process.claims.take_from_finish(answer))

    def end(self, ticket: Ticket, ends: str, peak: int | None, following: Request | None) -> list[bytes]:
        process, job = ticket.process, ticket.job
        options: dict[str, Any] = {"peak": peak}
        if following:
            self.asked.append((process, following))
            upcoming = UpcomingClaim(following.claim, following.turn)
            options |= {"upcoming": upcoming, "catalogue": following.catalogue, "room": following.room}
        before = self.store.picture().held
        call = process.reports.finish(job.claim, ticket.says(ends), {}, **options)
        reply: list[bytes] = self.answer(process.reports, call)
        claims = (process.instance, following) if following else None
        word, answer = self.model.finish(job.job_id, job.claim, ends, peak, claims)
        self.agree("finish", reply[0].decode(), word)
        if word == "ok":
            found = None if reply[1:] == [b"none"] else claim_answer(reply[1:])
            self.agree("finish and claim", found, answer)
        else:
            assert self.store.picture().held == before, f"a finish that was {word} changed something"
        return reply

    @precondition(lambda self: self.processes)
    @rule(pick=PICK)
    def heartbeat(self, pick: int) -> None:
        self.beat(self.pick(pick, list(self.processes.values())))

    def beat(self, process: Process) -> None:
        if self.renew(process, process.has) == "lost":
            process.has = None

    def renew(self, process: Process, ticket: Ticket | None) -> str:
        job = (ticket.job.job_id, ticket.job.claim) if ticket else ("", "")
        before = self.store.picture().held
        # The process that renews has its own few lines for this.
        found = self.store.run("renew", process.name, process.instance, LEASE_MS, *job).decode()
        self.see()
        expected = self.model.renew(process.name, process.instance, *job)
        self.agree("renew", found, expected)
        assert expected != "lost" or self.store.picture().held == before, "a lost claim's renewal changed something"
        return expected

    @precondition(lambda self: self.busy())
    @rule(pick=PICK, keep=st.booleans())
    def report(self, pick: int, keep: bool) -> None:
        self.append(self.pick(pick, self.busy()), keep=keep)

    def append(self, ticket: Ticket, *, keep: bool) -> None:
        before = self.store.picture().held
        reports = ticket.process.reports
        say = reports.append if keep else reports.publish
        found = self.answer(reports, say(ticket.job.claim, ticket.says())).decode()
        expected = self.model.append(ticket.job.job_id, ticket.job.claim, keep=keep)
        self.agree("append", found, expected)
        assert expected == "ok" or self.store.picture().held == before, "a lost claim's report changed something"

    @precondition(lambda self: self.tickets)
    @rule(pick=PICK, word=st.sampled_from(["renew", "append", "finish", "finish and go on"]), ends=ENDS)
    def an_old_claim_speaks(self, pick: int, word: str, ends: str) -> None:
        """Any process that ever had a job, dead or alive, says something under its claim."""
        ticket = self.pick(pick, [*self.overtaken(), *self.tickets[::-1]])
        if word == "renew":
            self.renew(ticket.process, ticket)
        elif word == "append":
            self.append(ticket, keep=True)
        else:
            self.end(ticket, ends, None, self.request_of(ticket.process, None) if word == "finish and go on" else None)
