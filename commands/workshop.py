"""`comfyume workshop`: a store, a frontend and workers on this machine, and a first prompt through them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from . import comfyui_install
from .child_process import ChildProcess, stop_all
from .comfyui_process import (
    DECIDED_HERE,
    Workshop,
    extension_folder,
    free_port,
    frontend_command,
    frontend_environment,
    worker_command,
    worker_environment,
)
from .errors import CommandError
from .first_prompt import run_first_prompt
from .source_tree import ROOT

if TYPE_CHECKING:
    from ..job_queue.embedded import EmbeddedStore
    from ..settings import Settings

DEFAULT_PORT = 8188
PICTURE = "first-picture.png"
#: Seconds between two looks at whether something is ready or has ended.
LOOK = 0.2


def default_state() -> Path:
    """Return the folder where the workshop keeps everything it writes."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "comfyume" / "workshop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--state", type=Path, default=default_state(), help="folder for everything (%(default)s)")
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="of the frontend, or the next free (%(default)s)"
    )
    parser.add_argument("--workers", type=_count, default=1, help="how many workers (%(default)s)")
    parser.add_argument("--once", action="store_true", help="stop after the first picture")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that a step may take (%(default)s)")


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a workshop has at least 1 worker")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Stand the workshop up, run the first prompt, and keep everything running until Ctrl-C."""
    log = StepLog()
    comfyui = comfyui_install.find() or comfyui_install.install()
    log.step("ComfyUI", f"{comfyui.version} in {comfyui.folder}")
    comfyui_install.ensure_requirements(comfyui)
    if extension_folder(comfyui) != ROOT:
        log.step("comfyume", f"the copy that is installed in {extension_folder(comfyui)}")
    state: Path = options.state.expanduser().absolute()
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(state))
        settings = settings_of(os.environ)
        store = stack.enter_context(running_store(state / "store"))
        log.step("store", f"in {state / 'store'}")
        workshop = Workshop(comfyui, state, store.url, free_port(options.port))
        workers_store = worker_url(store, settings.workshop)
        children: list[ChildProcess] = []
        stack.callback(_stop, children)
        _start(workshop, workers_store, options.workers, with_secret(settings, os.environ), children)
        asyncio.run(_first_prompt(workshop, children, options, log))
        log.step("picture", str(state / PICTURE))
        if options.once:
            return 0
        print(f"\nPoint your browser to {workshop.frontend_url}")
        print(f"Logs are in {state / 'logs'}. Ctrl-C stops everything.", flush=True)
        while True:
            for child in children:
                child.raise_if_dead()
            time.sleep(LOOK)


def settings_of(environ: Mapping[str, str]) -> Settings:
    """The settings that the processes will find in their environment, but for those that the workshop decides.

    Raises:
        CommandError: one of them is wrong.
    """
    # Here, because --help needs no settings.
    from ..settings import SettingsError, load  # noqa: PLC0415

    theirs = {name: value for name, value in environ.items() if name not in DECIDED_HERE}
    try:
        return load({**theirs, "COMFYUME_MODE": "off"})
    except SettingsError as error:
        raise CommandError(str(error)) from error


def with_secret(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the words that encrypt API keys, for a frontend and workers whose passwords differ.

    Where there are none to be had it stays as it is: prompts with API keys are refused then, with the reason.
    """
    from .. import workshop_secret  # noqa: PLC0415 - as above
    from ..job_queue.errors import SecretsUnreadable  # noqa: PLC0415

    with contextlib.suppress(SecretsUnreadable):
        return {**environ, "COMFYUME_SECRET": workshop_secret.find(settings)}
    return dict(environ)


def _start(
    workshop: Workshop, workers_store: str, workers: int, environ: Mapping[str, str], children: list[ChildProcess]
) -> None:
    gpus = comfyui_install.gpu_count()
    logs = workshop.state / "logs"
    folder = workshop.comfyui.folder
    children.append(
        ChildProcess(
            "frontend",
            frontend_command(workshop),
            logs / "frontend.log",
            frontend_environment(workshop, environ),
            folder,
        )
    )
    workers_view = replace(workshop, store_url=workers_store)
    for index in range(1, workers + 1):
        name = f"worker {index}" if workers > 1 else "worker"
        command = worker_command(workshop, index, free_port(), gpus)
        log = logs / f"worker-{index}.log"
        environment = worker_environment(workers_view, index, gpus, environ)
        children.append(ChildProcess(name, command, log, environment, folder))


def _stop(children: list[ChildProcess]) -> None:
    # A second Ctrl-C must not leave half of them running; this takes ten seconds at most.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("Stopping.", flush=True)
    stop_all(children)


async def _first_prompt(
    workshop: Workshop, children: list[ChildProcess], options: argparse.Namespace, log: StepLog
) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        server = workshop.frontend_url

        async def frontend_answers() -> bool:
            return await answer(session, f"{server}/comfyume/health") is not None

        async def workers_live() -> bool:
            health = await answer(session, f"{server}/comfyume/health") or {}
            return health.get("status") == "ok" and int(health.get("workers", 0)) >= options.workers

        await while_alive(children, wait_until("frontend", frontend_answers, options.timeout))
        log.step("frontend", f"answers at {server}")
        await while_alive(children, wait_until("worker", workers_live, options.timeout))
        log.step("worker" if options.workers == 1 else "workers", f"{options.workers} ready")
        async with signed_in(workshop.store_url) as headers:
            session.headers.update(headers)
            await while_alive(children, run_first_prompt(session, server, workshop.state / PICTURE))


@contextlib.asynccontextmanager
async def signed_in(store_url: str) -> AsyncIterator[dict[str, str]]:
    """The headers with which the first prompt is an instructor's, or any user's; none while there are no users."""
    # Here, because --help needs no store.
    from ..accounts.sessions import Sessions  # noqa: PLC0415
    from ..accounts.users import Users  # noqa: PLC0415
    from ..job_queue.connection import connect_async  # noqa: PLC0415
    from ..job_queue.keys import Keys  # noqa: PLC0415

    client = connect_async(store_url)
    keys = Keys(os.environ.get("COMFYUME_WORKSHOP") or "default")
    sessions = Sessions(client, keys)
    try:
        users = sorted((await Users(client, keys).all()).values(), key=lambda user: not user.is_instructor)
        if not users:
            yield {}
            return
        token = await sessions.begin(users[0].name, "comfyume workshop")
        try:
            yield {"Authorization": f"Bearer {token}"}
        finally:
            await sessions.end_of(token)
    finally:
        await client.aclose()


async def answer(session: aiohttp.ClientSession, url: str) -> dict[str, Any] | None:
    """Return the JSON object that an address answers with; None while it does not."""
    try:
        async with session.get(url) as response:
            body = await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
        return None
    return body if isinstance(body, dict) else None


async def wait_until(name: str, ready: Callable[[], Coroutine[Any, Any, bool]], timeout: float) -> None:
    """Wait until `ready` returns true.

    Raises:
        CommandError: it did not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not await ready():
        if time.monotonic() > deadline:
            raise CommandError(f"The {name} was not ready after {timeout:g} s: look in its log in the folder `logs`.")
        await asyncio.sleep(LOOK)


async def while_alive(children: list[ChildProcess], work: Coroutine[Any, Any, None]) -> None:
    """Do some work, but give it up as soon as a child ends.

    Raises:
        CommandError: a child has ended, or what `work` raises.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            for child in children:
                child.raise_if_dead()
            await asyncio.wait({task}, timeout=LOOK)
    finally:
        task.cancel()
    try:
        await task
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        raise CommandError(f"The frontend could not be reached ({error}).") from error


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state folder, so that two workshops never write into one.

    Raises:
        CommandError: another workshop holds it, or it cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        raise CommandError(f"{state} cannot be written ({error.strerror}): give another with --state.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(
                f"Another comfyume already runs in {state}: stop it, or give this one its own folder with --state."
            ) from error
        yield


@contextlib.contextmanager
def running_store(folder: Path) -> Iterator[EmbeddedStore]:
    """Run the embedded store in `folder`.

    Raises:
        CommandError: it did not start.
    """
    # Here, because --help needs no store.
    from ..job_queue.embedded import (  # noqa: PLC0415
        EmbeddedStore,
        EmbeddedStoreFailed,
        EmbeddedStoreMissing,
    )

    store = EmbeddedStore(folder)
    try:
        store.start()
    except (EmbeddedStoreFailed, EmbeddedStoreMissing) as error:
        raise CommandError(f"The store did not start: {error}") from error
    try:
        yield store
    finally:
        store.stop()


def worker_url(store: EmbeddedStore, workshop: str) -> str:
    """The store's address for workers, who may do no more there than they need.

    Raises:
        CommandError: the store has no user for them.
    """
    from ..job_queue.embedded import EmbeddedStoreFailed  # noqa: PLC0415 - as above

    try:
        return store.worker_url(workshop)
    except EmbeddedStoreFailed as error:
        raise CommandError(f"Workers were not started: {error}") from error


class StepLog:
    """Prints what has been done, and how long after the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def step(self, name: str, text: str) -> None:
        """Print one finished step."""
        print(f"{time.monotonic() - self._started:6.1f} s   {name:<9} {text}", flush=True)
