"""Notes when ComfyUI's event loop was held: a line of JSON for each stall, in the file that ``CFM_STALLS`` names."""

import asyncio
import gc
import json
import os
import time

from server import PromptServer

NODE_CLASS_MAPPINGS = {}
#: Seconds between two looks, and above which a delay is noted.
PAUSE = 0.005
SHORTEST = 0.02


collecting = {"since": 0.0, "seconds": 0.0}


def note_collection(phase: str, _: dict[str, int]) -> None:
    """Add up how long garbage is collected."""
    if phase == "start":
        collecting["since"] = time.monotonic()
    else:
        collecting["seconds"] += time.monotonic() - collecting["since"]


async def look() -> None:
    """Sleep shortly, for ever.

    ``cpu`` is how long the process computed meanwhile, in any of its threads; ``gc`` how long it collected garbage.
    """
    gc.callbacks.append(note_collection)
    with open(os.environ["CFM_STALLS"], "a", buffering=1) as file:  # noqa: ASYNC230 - a line now and then
        while True:
            collecting["seconds"] = 0.0
            began, computed = time.monotonic(), time.process_time()
            await asyncio.sleep(PAUSE)
            ended = time.monotonic()
            held = ended - began - PAUSE
            if held > SHORTEST:
                cpu = time.process_time() - computed
                line = {"begin": began, "end": ended, "held": held, "cpu": cpu, "gc": collecting["seconds"]}
                file.write(json.dumps(line) + "\n")


looking = PromptServer.instance.loop.create_task(look())
