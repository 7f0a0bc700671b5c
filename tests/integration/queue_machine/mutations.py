"""The scripts broken on purpose, one line at a time, to see that the machine notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from comfyume.job_queue.scripts import FOLDER, source


@dataclass(frozen=True)
class Mutation:
    """One replacement in one file of ``job_queue/lua``."""

    rule: str
    title: str
    file: str
    old: str
    new: str

    def places(self) -> int:
        """In how many places of the file it fits; it is to be one."""
        return (FOLDER / self.file).read_text(encoding="utf-8").count(self.old)

    @property
    def read(self) -> Callable[[str], str]:
        """Gives the text of a script with this mutation, wherever the file is part of it."""

        def read(script: str) -> str:
            text = source(script)
            is_part = self.file == f"{script}.lua" or self.file.startswith("includes/")
            return text.replace(self.old, self.new) if is_part else text

        return read


AFFINITY = "includes/affinity.lua"
ASSIGN = "includes/assign.lua"
CLAIMING = "includes/claiming.lua"
ENDING = "includes/ending.lua"
LANES = "includes/lanes.lua"
LEDGER = "includes/ledger.lua"
MEMORY = "includes/memory.lua"
FAIR = "includes/policy_fair.lua"

MUTATIONS = [
    # The ledger
    Mutation(
        "ledger",
        "a queued job that is cancelled is not in it",
        "cancel.lua",
        "      note_end(job_id, user, 'cancelled')\n",
        "",
    ),
    Mutation("ledger", "nobody is named", LEDGER, "'user', user, 'state', state,\n    'submitted'", "'submitted'"),
    # Memory
    Mutation("room", "a job may need a byte more", MEMORY, "need > tonumber(room)", "need > tonumber(room) + 1"),
    Mutation("room", "what fits exactly is too large", MEMORY, "need > tonumber(room)", "need >= tonumber(room)"),
    Mutation("room", "nobody counts", MEMORY, "room ~= '' and memory_of(lane)", "false"),
    Mutation(
        "room",
        "a new job is handed over unmeasured",
        ASSIGN,
        "lane_fits(request, lane) then",
        "catalogue_fits(request.catalogue, lane) then",
    ),
    Mutation(
        "room",
        "a waiting worker's room is forgotten",
        CLAIMING,
        "cjson.encode(can))",
        "cjson.encode({claim = claim, catalogue = catalogue, room = '', lease_ms = can.lease_ms}))",
    ),
    Mutation("room", "the end of a job claims with any room", "finish.lua", "ARGV[12], ARGV[14] or ''", "ARGV[12], ''"),
    Mutation(
        "short",
        "the most is told, not the least",
        ASSIGN,
        "math.min(least_short or need, need)",
        "math.max(least_short or need, need)",
    ),
    Mutation(
        "short", "the last is told", ASSIGN, "least_short = math.min(least_short or need, need)", "least_short = need"
    ),
    Mutation(
        "short",
        "a worker that is short does not wait",
        CLAIMING,
        "  redis.call('HSET', key('idle'), worker, cjson.encode(can))\n",
        "  if not least_short then redis.call('HSET', key('idle'), worker, cjson.encode(can)) end\n",
    ),
    Mutation(
        "short",
        "it is told of what it cannot run at all",
        ASSIGN,
        "  if not catalogue_fits(can.catalogue, lane) then\n",
        "  if not catalogue_fits(can.catalogue, lane) then\n least_short = too_large(can.room, lane) or least_short\n",
    ),
    Mutation(
        "need",
        "the estimate counts more than a run",
        MEMORY,
        "tonumber(stated or learned or estimate)",
        "tonumber(stated or estimate or learned)",
    ),
    Mutation(
        "need",
        "a run counts more than what is stated",
        MEMORY,
        "tonumber(stated or learned or estimate)",
        "tonumber(learned or stated or estimate)",
    ),
    Mutation(
        "need",
        "a worker is told the estimate",
        ASSIGN,
        "job_for_worker(job_id, stated or learned or estimate)",
        "job_for_worker(job_id, stated or estimate or learned)",
    ),
    Mutation(
        "peak",
        "a lower peak counts at once",
        MEMORY,
        "known and peak < known and known + 0.1 * (peak - known) or peak",
        "peak",
    ),
    Mutation("peak", "a higher peak counts bit by bit", MEMORY, "known and peak < known and", "known and"),
    Mutation("peak", "a lower peak never counts", MEMORY, "known + 0.1 * (peak - known) or peak", "known or peak"),
    Mutation(
        "peak",
        "a run that failed is learned from",
        "finish.lua",
        "if ARGV[3] == 'done' then",
        "if ARGV[3] ~= 'cancelled' then",
    ),
    Mutation("peak", "no peak is learned", "finish.lua", "(ARGV[15] or '') ~= ''", "false"),
    # Models
    Mutation("affinity", "affinity is off", AFFINITY, "if patience == 0 or", "if true or"),
    Mutation("affinity", "affinity cannot be put off", AFFINITY, "if patience == 0 or", "if"),
    Mutation(
        "affinity", "nobody's share is ever up", AFFINITY, "if longest.passed and math.min", "if false and math.min"
    ),
    Mutation("affinity", "each group has the whole bound", AFFINITY, "patience / #groups", "patience"),
    Mutation(
        "affinity",
        "what was just loaded may be given up",
        AFFINITY,
        "math.min(longest.passed, loaded_for)",
        "longest.passed",
    ),
    Mutation(
        "affinity",
        "the first group is served, not the longest passed",
        AFFINITY,
        "return group_of[longest.kind.models].people[1]",
        "return groups[1].people[1]",
    ),
    Mutation(
        "affinity",
        "whoever was passed over before is not served first",
        AFFINITY,
        "(mine.passed and mine.passed >= loaded_for)",
        "false",
    ),
    Mutation(
        "affinity",
        "those of one group go in turn, however long they waited",
        AFFINITY,
        "    if passed and passed > most then",
        "    if false then",
    ),
    Mutation(
        "affinity",
        "that somebody is passed over is not noted",
        AFFINITY,
        "    redis.call('HSET', key('passed'), unpack(passed))\n",
        "",
    ),
    Mutation(
        "affinity", "it is noted anew each time", AFFINITY, "    if not person.passed then\n", "    if true then\n"
    ),
    Mutation(
        "affinity",
        "it is not forgotten when they are served",
        ASSIGN,
        "  redis.call('HDEL', key('passed'), level .. ':' .. user .. ':' .. lane)\n",
        "",
    ),
    Mutation(
        "affinity",
        "it is forgotten when another job of theirs is served",
        ASSIGN,
        "level .. ':' .. user .. ':' .. lane)\n  redis.call('ZREM', key('queued')",
        "unpack(redis.call('HKEYS', key('passed'))))\n  redis.call('ZREM', key('queued')",
    ),
    Mutation(
        "affinity",
        "it is not forgotten when they wait no more",
        LANES,
        "    redis.call('HDEL', key('passed'), mine .. ':' .. lane)\n",
        "",
    ),
    Mutation("affinity", "jobs without models count as others", AFFINITY, " or models == ''", ""),
    Mutation(
        "loading", "others' models are loaded at once", AFFINITY, "load < SHORT_LOAD_MS or waited", "true or waited"
    ),
    Mutation(
        "loading",
        "others' models are never loaded",
        AFFINITY,
        "load < SHORT_LOAD_MS or waited >= LOADS_WAITED * math.min(others, MOST_WAITED_FOR) * load\n"
        "      or (first.passed or 0) >= patience",
        "others == 0",
    ),
    Mutation(
        "loading",
        "each of those that have them counts",
        AFFINITY,
        "math.min(others, MOST_WAITED_FOR)",
        "others",
    ),
    Mutation("loading", "the wait has no end", AFFINITY, "\n      or (first.passed or 0) >= patience\n", "\n"),
    Mutation(
        "loading", "time passed over does not count", AFFINITY, "(work + waited) / (1 + others)", "work / (1 + others)"
    ),
    Mutation(
        "loading",
        "work is not shared with those that have the models",
        AFFINITY,
        "(work + waited) / (1 + others)",
        "work + waited",
    ),
    Mutation("loading", "the least is loaded for", AFFINITY, "waiting > most)", "waiting < most)"),
    Mutation("loading", "a drained worker has models for others", AFFINITY, "has[1] and not has[2] and", "has[1] and"),
    Mutation(
        "loading",
        "a lost worker has models for others",
        AFFINITY,
        "      and redis.call('EXISTS', key('presence', other)) == 1 then",
        " then",
    ),
    Mutation(
        "loading",
        "a new job is never left to a worker that has its models",
        ASSIGN,
        "models ~= '' and better_elsewhere(chosen, lane)",
        "false",
    ),
    Mutation(
        "loading",
        "a reserved worker has models for others",
        AFFINITY,
        "redis.call('HEXISTS', key('reserved'), other) == 0",
        "true",
    ),
    Mutation("loading", "loading is not learned", "finish.lua", "if ran < took then", "if false then"),
    Mutation("loading", "loading is charged", ENDING, "usual and math.min(took, usual) or took", "took"),
    Mutation(
        "loading",
        "what is loaded is not noted",
        ASSIGN,
        "'loaded', models, 'loaded_since', now_ms())",
        "'loaded_since', now_ms())",
    ),
    Mutation("loading", "it counts as loaded anew with each job", ASSIGN, "  if loads then\n", "  if models then\n"),
    # Who goes next
    Mutation("fair", "nothing is charged at the claim", ASSIGN, "  charge(user, expected)\n", ""),
    Mutation("fair", "use does not fade", FAIR, "2 ^ (score - now)", "2 ^ score"),
    Mutation("fair", "a lost claim is not refunded", "sweep.lua", "    refund(job_id)\n", ""),
    Mutation("round_robin", "no turn is noted", ASSIGN, "  take_turn(user)\n", ""),
    Mutation(
        "fifo",
        "people stand at their first jobs, not at those that fit",
        "includes/policy_fifo.lua",
        "found[#found + 1] = {people[read], lane, number}",
        "found[#found + 1] = {people[read], lane, tonumber(people[read + 1])}",
    ),
    Mutation(
        "level",
        "a job that leaves the front stays ahead at its level",
        "steer.lua",
        "      redis.call('HDEL', job, 'rank')\n",
        "",
    ),
    Mutation(
        "level",
        "of several that go to the front the last is first",
        "steer.lua",
        "  first, last, step = last, first, -1\n",
        "",
    ),
    Mutation(
        "level",
        "who comes back from a lost worker is not at the front",
        LANES,
        "return job[1] or job[2]",
        "return job[2]",
    ),
    Mutation("level", "no level is ever due", ASSIGN, "now_ms() - served[i] > PATIENCE_MS", "false"),
    Mutation(
        "level",
        "ahead of all goes by the policy",
        ASSIGN,
        "(level == 'front' and order_fifo or POLICIES[mode])",
        "POLICIES[mode]",
    ),
    Mutation(
        "level", "ahead of all is weighed against loading", ASSIGN, "if level == 'front' or only then", "if only then"
    ),
    Mutation(
        "reserve",
        "a reservation is weighed against loading",
        ASSIGN,
        "if level == 'front' or only then",
        "if level == 'front' then",
    ),
    Mutation("reserve", "a new job is handed to a reserved worker", ASSIGN, "(only and only ~= user) or", ""),
    # Claims
    Mutation("submit", "a known id is a new job", "submit.lua", "if known[1] then", "if known[1] == '' then"),
    Mutation("claim", "an old turn brings a job", CLAIMING, "tonumber(turn) < tonumber(known[4])", "false"),
    Mutation(
        "claim", "a claim id brings a second job", CLAIMING, "if known[2] == claim then", "if known[2] == '' then"
    ),
    Mutation("renew", "anybody renews a lease", "renew.lua", "job[1] == ARGV[5] and ", ""),
    Mutation("renew", "a cancelled job's worker is not told", "renew.lua", "if job[3] then", "if false then"),
    Mutation(
        "expire",
        "a lease that ran out is not seen",
        "sweep.lua",
        "redis.call('EXISTS', key('lease', job_id)) == 0",
        "false",
    ),
    Mutation(
        "expire", "leases run out while the store is away", "sweep.lua", "if is_lost and is_grace then", "if false then"
    ),
    Mutation("finish", "a lost claim ends the job", "finish.lua", "if current[1] ~= ARGV[2] then", "if false then"),
    Mutation(
        "fail",
        "who failed has done it",
        "finish.lua",
        "end_job(ARGV[1], current[3], ARGV[3],",
        "end_job(ARGV[1], current[3], 'done',",
    ),
    Mutation("cancel", "others' jobs are cancelled", "cancel.lua", "if fields[1] == user then", "if fields[1] then"),
    Mutation(
        "cancel",
        "a held job stays queued",
        "cancel.lua",
        "redis.call('ZREM', key('queued'), job_id)",
        "if not fields[7] then redis.call('ZREM', key('queued'), job_id) end",
    ),
    Mutation(
        "hold",
        "a held job goes on standing there",
        "steer.lua",
        "    if not held then\n      enter_lane",
        "    if true then\n      enter_lane",
    ),
    Mutation("pause", "a pause stops nothing", ASSIGN, "if policy[2] == '1' then", "if false then"),
    Mutation("pause", "a new job is handed over in a pause", "submit.lua", "policy[2] == '1' or ", ""),
    Mutation("kill", "a job is never given up", "sweep.lua", "fields[4] or #losses >= tonumber(ARGV[1])", "fields[4]"),
    Mutation(
        "kill",
        "who takes a name leaves its job alone",
        "register_worker.lua",
        "    redis.call('DEL', key('lease', known[3]))\n",
        "",
    ),
    Mutation("drain", "a drained worker is given jobs", CLAIMING, "  if known[5] then\n", "  if false then\n"),
    Mutation(
        "drain", "a drained worker goes on waiting", "drain.lua", "  redis.call('HDEL', key('idle'), worker)\n", ""
    ),
    Mutation("leave", "leaving gives no job back", "leave.lua", "    return_to_lane(known[2])\n", ""),
    Mutation("leave", "leaving is charged", "leave.lua", "    refund(known[2])\n", ""),
]
