"""Break the code on purpose, one line at a time in a copy of it, and see that the trials notice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.processes import die_with_parent

from .groups import Group
from .reports import VIOLATED

#: What the trials need of the repository.
PARTS = (
    "job_queue",
    "worker_mode",
    "server_routes",
    "comfyui_seams",
    "blobs",
    "comfyume_nodes",
    "commands",
    "web",
    "workflows",
    "tests/node_packs",
    "tests/harness",
    "tests/chaos",
)
FILES = ("__init__.py", "roles.py", "settings.py", "shared_folder.py")
#: Seconds that trials of broken code wait for a job that may never end.
PATIENCE = 15
NOTICED = "noticed"
#: Seconds that the trials of one mutation may take.
LONGEST = 360


@dataclass(frozen=True)
class Mutation:
    """One replacement in one file, and the guarantee that it breaks."""

    guarantee: str
    title: str
    file: str
    old: str
    new: str


LUA = "job_queue/lua"
MUTATIONS = [
    Mutation(
        "G2",
        "no lease is ever looked at",
        f"{LUA}/sweep.lua",
        "local is_lost = redis.call('EXISTS', key('lease', job_id)) == 0",
        "local is_lost = false",
    ),
    Mutation("G2", "a lost job is put back nowhere", f"{LUA}/sweep.lua", "      return_to_lane(job_id)\n", ""),
    Mutation(
        "G2",
        "files are told of but not delivered",
        "worker_mode/publishing.py",
        "name = await self._transport.deliver(local.kind, local.subfolder, local.name, source)",
        "name = local.name",
    ),
    Mutation(
        "G2",
        "what a lost attempt delivered stays",
        "server_routes/lost_files.py",
        'if state == "lost":',
        "if False:",
    ),
    Mutation(
        "G2",
        "it is not noted what is delivered",
        "worker_mode/transports.py",
        "keep_source=True, note=note)",
        "keep_source=True)",
    ),
    Mutation(
        "G4",
        "a lease is renewed for ten times its length",
        f"{LUA}/renew.lua",
        "redis.call('PEXPIRE', lease, ARGV[3]) == 0",
        "redis.call('PEXPIRE', lease, ARGV[3] * 10) == 0",
    ),
    Mutation(
        "G4",
        "the store counts as new for ever",
        f"{LUA}/sweep.lua",
        "local is_grace = redis.call('EXISTS', key('grace')) == 1",
        "local is_grace = true",
    ),
    Mutation(
        "G4",
        "only a new process of the same name tells that a worker is lost",
        f"{LUA}/sweep.lua",
        "if is_lost and is_grace then",
        "if is_lost then",
    ),
    Mutation("G3", "any claim may finish", f"{LUA}/finish.lua", "if current[1] ~= ARGV[2] then", "if false then"),
    Mutation(
        "G3",
        "any claim may publish",
        f"{LUA}/append_events.lua",
        "if current[1] ~= ARGV[2] or (current[2]",
        "if (current[2]",
    ),
    Mutation(
        "G3",
        "a late finish is published before it is refused",
        f"{LUA}/finish.lua",
        "  return {'lost'}",
        "  redis.call('PUBLISH', key('events'), ARGV[5])\n  return {'lost'}",
    ),
    Mutation(
        "G1",
        "a submit is acknowledged before it is stored",
        "job_queue/frontend_queue.py",
        'reply = await self._run("submit", *submission.arguments())',
        '__import__("asyncio").ensure_future(self._run("submit", *submission.arguments())); reply = [b"stored", b"1"]',
    ),
    Mutation(
        "G1",
        "a submit that failed counts as stored",
        "job_queue/frontend_queue.py",
        'reply = await self._run("submit", *submission.arguments())',
        "try:\n"
        '            reply = await self._run("submit", *submission.arguments())\n'
        "        except Exception:\n"
        '            reply = [b"stored", b"1"]',
    ),
    Mutation(
        "G1",
        "the store keeps nothing on disk",
        "tests/harness/processes.py",
        '"--appendonly", "yes"',
        '"--appendonly", "no"',
    ),
    Mutation(
        "G9",
        "losses are not counted",
        f"{LUA}/includes/losses.lua",
        "losses[#losses + 1] = {",
        "losses[1] = {",
    ),
    Mutation(
        "G9",
        "one loss too many is allowed",
        f"{LUA}/sweep.lua",
        "#losses >= tonumber(ARGV[1])",
        "#losses > tonumber(ARGV[1])",
    ),
    Mutation("G9", "two losses are enough", "job_queue/frontend_queue.py", "MAXIMUM_LOSSES = 3", "MAXIMUM_LOSSES = 2"),
    Mutation(
        "G11",
        "a cancelled job stays in its lane",
        f"{LUA}/cancel.lua",
        "        leave_lane(job_id, fields[6], user, fields[3])\n",
        "",
    ),
    Mutation(
        "G11",
        "a cancel interrupts nothing",
        "worker_mode/executor.py",
        "        running.cancelled = True\n        self._engine.interrupt()",
        "        running.cancelled = True",
    ),
    Mutation(
        "G11",
        "an interrupted job ends with an error",
        "worker_mode/endings.py",
        'return "cancelled" if any(',
        'return "error" if any(',
    ),
    Mutation("G8", "known ids are not looked for", f"{LUA}/submit.lua", "if known[1] then", "if false then"),
    Mutation("G8", "another body is the same job", f"{LUA}/submit.lua", "if known[1] == digest then", "if true then"),
    Mutation(
        "G8",
        "the same submit gets another number",
        f"{LUA}/submit.lua",
        "return {'known', known[2]}",
        "return {'known', tostring(redis.call('INCR', key('submitted')))}",
    ),
    Mutation(
        "G6",
        "a job can be ended again",
        f"{LUA}/finish.lua",
        "if current[2] ~= 'claimed' and current[2] ~= 'running' then",
        "if false then",
    ),
    Mutation(
        "G6",
        "a claim that is asked for again brings another job",
        f"{LUA}/includes/claiming.lua",
        "if known[2] == claim then",
        "if false then",
    ),
    Mutation("G6", "a submit that is repeated is a new one", f"{LUA}/submit.lua", "if known[1] then", "if false then"),
    Mutation(
        "G5",
        "the heartbeat is slower than the lease",
        "worker_mode/heartbeat_process.py",
        "min(1.0, identity.lease / 4)",
        "identity.lease * 4",
    ),
    Mutation(
        "G5",
        "every running job is taken for lost",
        f"{LUA}/sweep.lua",
        "local is_lost = redis.call('EXISTS', key('lease', job_id)) == 0",
        "local is_lost = true",
    ),
    Mutation(
        "G5",
        "a renewal renews nothing",
        f"{LUA}/renew.lua",
        "redis.call('PEXPIRE', lease, ARGV[3]) == 0",
        "redis.call('EXISTS', lease) == 2",
    ),
    Mutation(
        "G7",
        "a forgotten worker does not register again",
        "worker_mode/registration.py",
        "        self._loop.call_soon_threadsafe(self._again.set)\n",
        "",
    ),
    Mutation(
        "G7",
        "a worker that lost its store while it waited for work looks for none again",
        "worker_mode/executor.py",
        '            log.warning("[comfyume] %s Looking for work again in %.0f s.", error, STORE_PAUSE)\n',
        "            raise SystemExit from error\n",
    ),
    Mutation(
        "G7",
        "a broken subscription is not made again",
        "worker_mode/control.py",
        "                await asyncio.sleep(pause)\n",
        "                return\n",
    ),
    Mutation("G10", "nobody's turn is noted", f"{LUA}/includes/assign.lua", "  take_turn(user)\n", ""),
    Mutation(
        "G10",
        "who used most goes first",
        f"{LUA}/includes/policy_fair.lua",
        "redis.call('ZRANGE', key('order', level), read, read + piece - 1)",
        "redis.call('ZRANGE', key('order', level), read, read + piece - 1, 'REV')",
    ),
    Mutation(
        "G10",
        "a person's last job goes first",
        f"{LUA}/includes/assign.lua",
        "local job_id = redis.call('ZRANGE', key('lane', level .. ':' .. user .. ':' .. lane), 0, 0)[1]",
        "local job_id = redis.call('ZRANGE', key('lane', level .. ':' .. user .. ':' .. lane), -1, -1)[1]",
    ),
    Mutation(
        "G15",
        "a full store takes no end of a job",
        f"{LUA}/finish.lua",
        "proceed_when_full()\n-- Nobody",
        "-- Nobody",
    ),
    Mutation(
        "G15",
        "leases are renewed by a write that needs memory",
        f"{LUA}/renew.lua",
        "redis.call('PEXPIRE', lease, ARGV[3]) == 0",
        "not redis.call('SET', lease, ARGV[5], 'PX', ARGV[3])",
    ),
    Mutation(
        "G15",
        "a full store takes submits",
        f"{LUA}/submit.lua",
        "local sequence = redis.call(",
        "proceed_when_full()\nlocal sequence = redis.call(",
    ),
    Mutation(
        "G16",
        "what did not arrive is nobody's business",
        "worker_mode/courier.py",
        "            if running.undelivered is not None:\n",
        "            if False:\n",
    ),
    Mutation(
        "G16",
        "a small file is not compared with its hash",
        "blobs/store.py",
        "        if found != digest:\n",
        "        if False:\n",
    ),
    Mutation(
        "G16",
        "a large file is not compared with its hash",
        "blobs/store.py",
        "            if found != sha256:\n",
        "            if False:\n",
    ),
    Mutation(
        "G16",
        "a copy is made under the name that it is to have",
        "blobs/placing.py",
        "        with staged_copy(source, folder) as staged:\n",
        "        if __import__('shutil').copyfile(source, folder / name):\n            return name\n"
        "        with staged_copy(source, folder) as staged:\n",
    ),
    Mutation(
        "G16",
        "a file that the disk does not take ends the events",
        "worker_mode/courier.py",
        "        except (BlobError, OSError) as error:\n            log.warning",
        "        except BlobError as error:\n            log.warning",
    ),
    Mutation(
        "G18",
        "a body may have any number of bytes and values",
        "server_routes/visits.py",
        "        visit.is_large = await check_size(request)\n",
        "        visit.is_large = True\n",
    ),
    Mutation(
        "G18",
        "what cannot be read is the server's mistake",
        "server_routes/visits.py",
        "            raise no_prompt(error) from error\n\n    async def _prepare",
        "            raise\n\n    async def _prepare",
    ),
    Mutation(
        "G18",
        "NaN is a number",
        "job_queue/jobs.py",
        "allow_nan=False",
        "allow_nan=True",
    ),
    Mutation(
        "G18",
        "a body may have any number of values",
        "server_routes/prompt_limits.py",
        "MOST_VALUES = 120_000",
        "MOST_VALUES = 120_000_000",
    ),
    Mutation(
        "G19",
        "a submit holds up everybody",
        "server_routes/visits.py",
        "            number = await self._submit(visit, change)\n",
        "            __import__('time').sleep(0.7)\n            number = await self._submit(visit, change)\n",
    ),
    Mutation(
        "G19",
        "a claim takes the store a while",
        f"{LUA}/claim.lua",
        "return claim_next(",
        "for step = 1, 30000000 do local waste = step * step end\nreturn claim_next(",
    ),
    Mutation(
        "G19",
        "browsers hear of their own submits alone",
        "server_routes/relay.py",
        "                self._post(sid, job.job_id, job.attempt, *its)\n",
        "                job.user == 'local' and self._post(sid, job.job_id, job.attempt, *its)\n",
    ),
    Mutation(
        "G17",
        "turns are the worker's time of the day",
        "job_queue/worker_queue.py",
        "time.monotonic_ns() // 1000",
        "time.time_ns() // 1000",
    ),
    Mutation(
        "G17",
        "what is kept is told by the worker's clock",
        "job_queue/worker_queue.py",
        "self._history = [history_size, int(history_days * 86_400_000)]",
        "self._history = [history_size, int(time.time() * 1000)]",
    ),
    Mutation(
        "G17",
        "the sweep gets the frontend's clock",
        "job_queue/frontend_queue.py",
        "self._grace_ms = int(lease * 1000)",
        'self._grace_ms = int(__import__("time").time() * 1000)',
    ),
    Mutation(
        "G12",
        "leaving counts as a loss",
        f"{LUA}/leave.lua",
        "    redis.call('HDEL', job, 'claim')\n",
        "    redis.call('HDEL', job, 'claim')\n    redis.call('HINCRBY', job, 'lost', 1)\n",
    ),
    Mutation(
        "G12",
        "a worker waits for no job",
        "worker_mode/worker.py",
        "await asyncio.to_thread(self.executor.wait_until_idle, self._drain_notice)",
        "False",
    ),
    Mutation(
        "G12",
        "a worker goes without a word",
        "worker_mode/worker.py",
        "returned = await self._reports.leave()",
        'returned = ""',
    ),
]


def try_all(groups: Sequence[Group], seed: int) -> int:
    """Try each mutation of these groups' guarantees; 1 when one was not noticed."""
    names = {name for group in groups for name in group.guarantees}
    missed = 0
    for mutation in MUTATIONS:
        if mutation.guarantee in names:
            began = time.monotonic()
            verdict = _try(mutation, seed)
            missed += verdict != NOTICED
            print(
                f"{mutation.guarantee:4} {verdict:10} {mutation.title} ({time.monotonic() - began:.0f} s)", flush=True
            )
    return int(missed > 0)


def _try(mutation: Mutation, seed: int) -> str:
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    try:
        _copy(folder)
        path = folder / mutation.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutation.old) != 1:
            return f"fits {text.count(mutation.old)} places, not one"
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            outcome = _run(folder, mutation, seed)
        except subprocess.TimeoutExpired:
            return "HANGS"
        if outcome.returncode == VIOLATED and re.search(
            rf"^{mutation.guarantee} .*VIOLATIONS", outcome.stdout, re.MULTILINE
        ):
            return NOTICED
        return f"MISSED\n{outcome.stdout}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, mutation: Mutation, seed: int) -> subprocess.CompletedProcess[str]:
    script = folder / "tests" / "chaos" / "run.py"
    options = ["--only", mutation.guarantee, "--seed", str(seed), "--patience", str(PATIENCE)]
    return subprocess.run(
        [sys.executable, str(script), *options, "--logs", str(folder / "logs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LONGEST,
        # Whatever it leaves goes with the copy.
        env={**os.environ, "TMPDIR": str(folder)},
        preexec_fn=die_with_parent,
    )


def _copy(folder: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
