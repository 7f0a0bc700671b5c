"""The numbers by which the scripts decide, read from the scripts: another number is no other rule."""

from __future__ import annotations

import re

from comfyume.job_queue.scripts import source


def _number(name: str) -> int:
    """The value of a constant that ``sweep.lua`` or one of its includes gives this name."""
    found: list[str] = re.findall(rf"^local {name} = (\d+)$", source("sweep"), re.MULTILINE)
    if len(found) != 1:
        raise LookupError(f"the scripts have {len(found)} constants {name}, not one")
    return int(found[0])


#: For so long people may be passed over, where the policy does not say otherwise.
USUAL_AFFINITY_MS = _number("USUAL_AFFINITY_MS")
#: Loading that takes less is not worth waiting for another worker.
SHORT_LOAD_MS = _number("SHORT_LOAD_MS")
#: Models that another worker has are loaded after so many times as long as loading takes.
LOADS_WAITED = _number("LOADS_WAITED")
#: For each of the workers that have them, but for no more than so many.
MOST_WAITED_FOR = _number("MOST_WAITED_FOR")
#: A level at which people wait gets a job at least this often.
PATIENCE_MS = _number("PATIENCE_MS")
#: What a person used fades by half in this time.
HALF_LIFE_MS = _number("HALF_LIFE_MS")
#: What a job is taken to cost before one of its kind has ended.
USUAL_MS = _number("USUAL_MS")
