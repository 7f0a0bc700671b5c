"""Seam: ``PromptServer``'s application and event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

import server as server_module
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from comfy.cli_args import args
from server import PromptServer
from yarl import URL


def loop() -> asyncio.AbstractEventLoop:
    """ComfyUI's event loop."""
    own: asyncio.AbstractEventLoop = PromptServer.instance.loop
    return own


def on_startup(start: Callable[[web.Application], Awaitable[None]]) -> None:
    """Run this when the server starts; ComfyUI never runs what is registered for its end."""
    PromptServer.instance.app.on_startup.append(start)


def add_outermost_middleware(middleware: Middleware) -> None:
    """Let every request pass here first."""
    PromptServer.instance.app.middlewares.insert(0, middleware)


def on_answer(note: Callable[[web.Request, web.StreamResponse], Awaitable[None]]) -> None:
    """Run this just before an answer is sent, when it is known how long a file is."""
    PromptServer.instance.app.on_response_prepare.append(note)


def add_route(method: str, path: str, handler: Handler) -> None:
    """Add a route while custom nodes load, so before ComfyUI's own: the first that was registered answers."""
    PromptServer.instance.app.router.add_route(method, path, handler)


def allows_other_origins() -> bool:
    """Whether ComfyUI was told to answer pages of other sites."""
    return bool(args.enable_cors_header)


def ask_no_name_server() -> None:
    """Let ComfyUI tell whether a host is this machine by what is written.

    It looks the name up for each change that a page sends, on the event loop: for as long as a name server takes,
    nobody else is answered. The gate has compared host and origin by then.
    """
    server_module.is_loopback = _is_this_machine


def _is_this_machine(host: str | None) -> bool:
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or str(host).endswith(".localhost")


async def serve_at(
    request: web.Request, raw_path: str, notes: Mapping[str, Any], body: bytes | None = None
) -> web.StreamResponse:
    """Answer a request as if it had been sent to another address of this server, through all middlewares.

    aiohttp resolves a route before the middlewares run, so this resolves anew.

    Args:
        raw_path: path and query as they would have been sent, so that `%2F` stays what it is.
        notes: what the middlewares find in the request.
        body: what the handler finds there instead of what was sent, which must not have been read.
    """
    moved = request.clone(rel_url=URL(raw_path, encoded=True))
    if body is not None:
        moved._read_bytes = body  # noqa: SLF001 - aiohttp has no other way; it is where `read` keeps what it has read
    moved.update(notes)
    answer: web.StreamResponse = await PromptServer.instance.app._handle(moved)  # noqa: SLF001 - aiohttp has no other
    return answer


async def answer_in_thread(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run a handler of ComfyUI's that holds the loop, but waits for nothing in it, in a thread."""
    return await asyncio.to_thread(asyncio.run, handler(request))  # type: ignore[arg-type]


def on_prompt(handler: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """See the body of each ``/prompt`` before ComfyUI does."""
    PromptServer.instance.add_on_prompt_handler(handler)


def set_flag(name: str, value: Any) -> None:
    """Set a flag of this process's queue."""
    PromptServer.instance.prompt_queue.set_flag(name, value)


def next_number(number: int) -> None:
    """Let ComfyUI count its prompts on from here."""
    PromptServer.instance.number = max(PromptServer.instance.number, number)


@cache
def own_address() -> str:
    """Where this server can be reached from the same machine."""
    host = args.listen.split(",")[0]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    scheme = "https" if args.tls_keyfile and args.tls_certfile else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{args.port}"


def end() -> None:
    """Ask this process to end in good order; from any thread."""
    os.kill(os.getpid(), signal.SIGTERM)


def end_in_good_order(stop: Callable[[], Awaitable[None]], patience: float) -> None:
    """On SIGTERM run ``stop``, then end as ComfyUI does on Ctrl-C; ComfyUI itself handles SIGTERM not at all.

    Args:
        patience: seconds after which the process ends though ``stop`` has not.
    """

    async def stop_and_end() -> None:
        try:
            await asyncio.wait_for(stop(), patience)
        finally:
            signal.raise_signal(signal.SIGINT)

    def on_signal() -> None:
        task = asyncio.ensure_future(stop_and_end())
        task.add_done_callback(lambda done: done.exception())

    try:
        loop().add_signal_handler(signal.SIGTERM, on_signal)
    except (NotImplementedError, RuntimeError):
        # Windows, or a loop that is not in the main thread: the process then ends as it did before.
        return
