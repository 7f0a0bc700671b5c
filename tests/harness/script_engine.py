"""An engine without torch or ComfyUI: a prompt is one node that says how long it runs and what goes wrong.

A graph for it is ``{"1": {"class_type": "Script", "inputs": {...}}}``; ``Script`` names the inputs. It sends the events
and gives the results that ComfyUI would, so all of a worker but ComfyUI is the real thing.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import signal
import threading
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from comfyume.blobs.placing import highest_number
from comfyume.comfyui_seams.answers import Verdict
from comfyume.job_queue.catalogue import Catalogue

if TYPE_CHECKING:
    from comfyume.worker_mode.running_job import RunningJob
    from comfyume.worker_mode.worker import Worker

NODE = "Script"
#: What ComfyUI would say of it, so that a frontend takes prompts with it, and a page knows it.
DEFINITION = {
    "input": {"required": {}},
    "input_order": {"required": []},
    "output": [],
    "output_name": [],
    "output_is_list": [],
    "name": NODE,
    "display_name": NODE,
    "description": "",
    "category": "tests",
    "python_module": "nodes",
    "output_node": True,
}
#: Where a worker can be made to die, in the order in which a job comes by.
STEPS = ("check", "start", "middle", "written", "end", "finish")
#: Seconds for which the executing thread waits for a prompt, as ComfyUI's does between two collections of garbage.
LONGEST_GET = 10.0
#: Seconds within which a job's files are at its person's, once it has told of them.
DELIVERED = 0.1


@dataclass(frozen=True)
class Script:
    """What a prompt does.

    Attributes:
        steps: how many steps of progress it makes.
        seconds: length of a step.
        files: how many files it saves.
        bytes: length of each file.
        gil: seconds for which each step holds the interpreter's lock, so that no other thread runs.
        deaf: whether it ignores interrupts.
        hurries: whether its steps take no time when it is not the first attempt.
        die_at: one of ``STEPS`` at which the process kills itself, or an empty string.
        die_times: for how many attempts it does so.
        tells: whether the log gets a line for each step of progress, with the wall clock in Unix seconds.
    """

    steps: int = 3
    seconds: float = 0.05
    files: int = 1
    bytes: int = 20_000
    gil: float = 0.0
    deaf: bool = False
    hurries: bool = False
    die_at: str = ""
    die_times: int = 1
    tells: bool = False

    def graph(self) -> dict[str, Any]:
        """The graph that is this script."""
        inputs = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"1": {"class_type": NODE, "inputs": inputs}}

    @classmethod
    def of(cls, prompt: dict[str, Any]) -> Script:
        """The script of a graph."""
        return cls(**prompt["1"]["inputs"])


class Status(NamedTuple):
    """What ComfyUI's executor says of a prompt."""

    status_str: str
    completed: bool
    messages: list[Any]


def content(job_id: str, claim: str, index: int, length: int) -> bytes:
    """A file of a job: it says which job and claim made it, and any cut or mixed one differs."""
    head = json.dumps({"job": job_id, "claim": claim, "index": index, "bytes": length}).encode() + b"\n"
    pattern = hashlib.sha256(head).digest()
    return head + (pattern * (length // len(pattern) + 1))[: max(0, length - len(head))]


class ScriptEngine:
    """See ``worker_mode.engine.Engine``.

    Args:
        loop: on which events are handed to the courier.
        log: file that gets a line of JSON when a run begins and when it ends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Path) -> None:
        self._loop = loop
        self._log = log
        self._worker: Worker | None = None
        self._queue: asyncio.Queue[tuple[str, Any, str | None]] = asyncio.Queue()
        self._sending: asyncio.Task[None] | None = None
        self._interrupted = threading.Event()
        self._ended = threading.Event()

    # Life.

    def start(self, worker: Worker) -> None:
        """Begin to execute for this worker; on the event loop."""
        self._worker = worker
        self._sending = asyncio.create_task(self._send_for_ever(worker), name="script-sending")
        threading.Thread(target=self._execute_for_ever, args=(worker,), name="script-executing", daemon=True).start()

    def stop(self) -> None:
        """Execute nothing more after the prompt that runs."""
        self._ended.set()

    async def _send_for_ever(self, worker: Worker) -> None:
        while True:
            event, data, client = await self._queue.get()
            await worker.courier.take_json(event, data, client)

    def _execute_for_ever(self, worker: Worker) -> None:
        while not self._ended.is_set():
            taken = worker.executor.get(LONGEST_GET)
            if taken is None:
                continue
            item, running = taken
            self.note("begin", running)
            result, status = self._execute(item[2], running, worker.job_folders.output)
            if Script.of(item[2]).die_at == "end":
                time.sleep(DELIVERED)
            self.die_if(Script.of(item[2]), "end")
            worker.executor.task_done(running, result, status)
            self.note("end", running, completed=status.completed)

    def note(self, what: str, running: RunningJob, **more: Any) -> None:
        """Write a line about a run; lines of several processes do not mix."""
        job = running.job
        line = {"what": what, "at": time.monotonic(), "job": job.job_id, "attempt": job.attempt, "claim": job.claim}
        with self._log.open("ab", buffering=0) as file:
            file.write(json.dumps({**line, "pid": os.getpid(), **more}).encode() + b"\n")

    # Executing.

    def _execute(self, prompt: dict[str, Any], running: RunningJob, output: Path) -> tuple[dict[str, Any], Status]:
        script = Script.of(prompt)
        if script.hurries and running.job.attempt > 1:
            script = replace(script, seconds=0.0)
        job_id, client = running.job.job_id, running.client
        messages: list[Any] = []

        def say(event: str, data: dict[str, Any]) -> None:
            messages.append([event, {"prompt_id": job_id, **data, "timestamp": int(time.time() * 1000)}])
            self.tell(event, messages[-1][1], client)

        self.die_if(script, "start")
        self._interrupted.clear()
        say("execution_start", {})
        self.tell("executing", {"node": "1", "display_node": "1", "prompt_id": job_id}, client)
        for step in range(script.steps):
            if step == script.steps // 2:
                self.die_if(script, "middle")
            if not self._pass_time(script):
                say("execution_interrupted", {"node_id": "1", "node_type": NODE, "executed": []})
                return {"outputs": {}, "meta": {}}, Status("error", False, messages)
            if script.tells:
                self.note("step", running, value=step + 1, clock=time.time())
            progress = {"value": step + 1, "max": script.steps, "prompt_id": job_id, "node": "1"}
            self.tell("progress", progress, client)
        try:
            names = self._save(script, running, output)
        except OSError as error:
            failed = {"exception_message": str(error), "exception_type": type(error).__name__, "traceback": []}
            say("execution_error", {"node_id": "1", "node_type": NODE, "executed": [], **failed})
            return {"outputs": {}, "meta": {}}, Status("error", False, messages)
        self.die_if(script, "written")
        images = [{"filename": name, "subfolder": "", "type": "output"} for name in names]
        outputs = {"images": images, "claim": [running.job.claim]}
        node = {"node": "1", "display_node": "1", "prompt_id": job_id}
        self.tell("executed", {**node, "output": outputs}, client)
        say("execution_success", {})
        meta = {"1": {"node_id": "1", "display_node": "1", "parent_node": None, "real_node_id": "1"}}
        return {"outputs": {"1": outputs}, "meta": meta}, Status("success", True, messages)

    @staticmethod
    def _save(script: Script, running: RunningJob, output: Path) -> list[str]:
        """Write the files, as ComfyUI's nodes do behind the highest number in the folder; returns their names."""
        first = highest_number(output, "script") + 1
        names = [f"script_{first + index:05}_.bin" for index in range(script.files)]
        for index, name in enumerate(names):
            (output / name).write_bytes(content(running.job.job_id, running.job.claim, index, script.bytes))
        return names

    def _pass_time(self, script: Script) -> bool:
        """Let one step pass; False when it was interrupted."""
        if script.gil:
            ctypes.PyDLL(None).usleep(int(script.gil * 1_000_000))
        if script.deaf:
            time.sleep(script.seconds)
            return True
        return not self._interrupted.wait(script.seconds)

    def die_if(self, script: Script, step: str) -> None:
        """Kill this process if the script wants that at this step of this attempt."""
        running = self._worker.executor.running() if self._worker is not None else None
        if script.die_at == step and running is not None and running.job.attempt <= script.die_times:
            self.note("dies", running, step=step)
            os.kill(os.getpid(), signal.SIGKILL)

    # What a worker asks of an engine.

    async def offer(self) -> Catalogue:
        """See ``Engine``."""
        return Catalogue({NODE: DEFINITION}, {}, frozenset(), {}, {})

    def describe(self) -> dict[str, Any]:
        """See ``Engine``."""
        return {"engine": "script"}

    def browser_files(self) -> dict[str, dict[str, Path]]:
        """See ``Engine``."""
        return {}

    def model_metadata(self, folder: str, file: str) -> Any:
        """See ``Engine``."""
        del folder, file

    def check_now(self, job_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """See ``Engine``."""
        del job_id
        self.die_if(Script.of(prompt), "check")
        return Verdict(True, None, outputs or ["1"], {})

    async def check(self, job_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """See ``Engine``."""
        del job_id, prompt
        return Verdict(True, None, outputs or ["1"], {})

    def interrupt(self) -> None:
        """See ``Engine``."""
        self._interrupted.set()

    def set_flag(self, name: str, value: Any) -> None:
        """See ``Engine``. There is nothing to free."""

    def memory(self) -> None:
        """See ``Engine``. There is no device."""

    def unload(self) -> None:
        """See ``Engine``. There is nothing to unload."""

    def begin_measuring(self) -> None:
        """See ``Engine``. There is no device."""

    def measure(self) -> dict[str, Any]:
        """See ``Engine``."""
        return {"devices": [], "loaded": []}

    def count_frames(self, file: Path) -> int:
        """See ``Engine``. Scripts make no films."""
        return 1

    def peak(self) -> None:
        """See ``Engine``. There is no device."""

    def tell(self, event: str, data: Any, client: str | None = None) -> None:
        """See ``Engine``."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (event, data, client))

    def message(self, event: str, data: Any) -> bytes:
        """See ``Engine``."""
        return json.dumps({"type": event, "data": data}).encode()

    def announce_client(self, client: str | None, features: dict[str, Any]) -> None:
        """See ``Engine``. There are no browsers here."""

    def forget_client(self, client: str | None) -> None:
        """See ``Engine``. There are no browsers here."""
