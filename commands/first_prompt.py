"""Run one prompt through a ComfyUI server, as a browser would, and fetch its picture."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import aiohttp

from .errors import CommandError

NODE = "ComfyumeTestCard"
NODE_ID, SAVE_ID = "1", "2"
BAR_WIDTH = 30
#: Events without which a prompt neither ends nor fails for so long mean that something hangs, in seconds.
SILENCE = 120.0


async def run_first_prompt(session: aiohttp.ClientSession, server: str, picture: Path) -> None:
    """Queue the model-free template's prompt on `server`, show its progress, and write its picture to `picture`.

    Raises:
        CommandError: the server refused the prompt, it failed, or it left no picture.
    """
    prompt = test_card_prompt(await _get_json(session, f"{server}/object_info/{NODE}"))
    client_id = uuid.uuid4().hex
    bar = ProgressBar()
    async with session.ws_connect(f"{server.replace('http', 'ws', 1)}/ws", params={"clientId": client_id}) as socket:
        prompt_id = await _submit(session, server, prompt, client_id)
        try:
            await _follow(socket, prompt_id, bar)
        finally:
            bar.close()
    image = first_image(await _get_json(session, f"{server}/history/{prompt_id}"), prompt_id)
    async with session.get(f"{server}/view", params=image) as response:
        if response.status != 200:
            raise CommandError(f"The prompt ran, but its picture could not be fetched (HTTP {response.status}).")
        content = await response.read()
    await asyncio.to_thread(picture.write_bytes, content)


def test_card_prompt(object_info: dict[str, Any]) -> dict[str, Any]:
    """Return the API form of `workflows/test-card.json`: a test card, saved. Inputs have their nodes' defaults.

    Raises:
        CommandError: the server does not know the node.
    """
    if NODE not in object_info:
        raise CommandError(f"The server does not know the node {NODE}: look in its log for why comfyume did not load.")
    required = object_info[NODE]["input"].get("required", {})
    inputs = {name: default_value(definition) for name, definition in required.items()}
    return {
        NODE_ID: {"class_type": NODE, "inputs": inputs},
        SAVE_ID: {"class_type": "SaveImage", "inputs": {"images": [NODE_ID, 0], "filename_prefix": "first-picture"}},
    }


def default_value(definition: list[Any]) -> Any:
    """Return the value that a widget starts with, from its definition in `/object_info`."""
    kind = definition[0]
    options = definition[1] if len(definition) > 1 else {}
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices:
        return choices[0]
    return {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(kind, "")


def first_image(history: dict[str, Any], prompt_id: str) -> dict[str, str]:
    """Return filename, subfolder and type of the first picture of a finished prompt.

    Raises:
        CommandError: there is none.
    """
    outputs = history.get(prompt_id, {}).get("outputs", {})
    for output in outputs.values():
        for image in output.get("images", []):
            return {name: str(image[name]) for name in ("filename", "subfolder", "type")}
    raise CommandError("The prompt ended, but its history names no picture.")


async def _get_json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        if response.status != 200:
            raise CommandError(f"{url} answered HTTP {response.status}.")
        answer: dict[str, Any] = await response.json()
        return answer


async def _submit(session: aiohttp.ClientSession, server: str, prompt: dict[str, Any], client_id: str) -> str:
    async with session.post(f"{server}/prompt", json={"prompt": prompt, "client_id": client_id}) as response:
        text = await response.text()
    if response.status != 200:
        raise CommandError(f"The frontend refused the prompt: {refusal(text)}")
    return str(json.loads(text)["prompt_id"])


def refusal(text: str) -> str:
    """Return the reason in ComfyUI's answer to a prompt that it refused."""
    try:
        answer = json.loads(text)
        reasons = [answer["error"]["message"]]
        reasons += [item["details"] for node in answer.get("node_errors", {}).values() for item in node["errors"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return text.strip() or "it gave no reason"
    return "; ".join(str(reason) for reason in reasons)


async def _follow(socket: aiohttp.ClientWebSocketResponse[bool], prompt_id: str, bar: ProgressBar) -> None:
    while True:
        try:
            message = await socket.receive(timeout=SILENCE)
        except asyncio.TimeoutError as error:
            raise CommandError(f"The prompt did not end: nothing was heard of it for {SILENCE:.0f} s.") from error
        if message.type == aiohttp.WSMsgType.BINARY:  # a preview
            continue
        if message.type != aiohttp.WSMsgType.TEXT:
            raise CommandError("The frontend closed the connection before the prompt ended.")
        event = json.loads(message.data)
        data = event.get("data") or {}
        if not isinstance(data, dict) or data.get("prompt_id") != prompt_id:
            continue
        match event["type"]:
            case "progress":
                bar.show(data["value"], data["max"])
            case "execution_error":
                raise CommandError(f"The prompt failed in {data.get('node_type')}: {data.get('exception_message')}")
            case "execution_interrupted":
                raise CommandError("Somebody interrupted the prompt.")
            case "executing" if data.get("node") is None:
                return


class ProgressBar:
    """A bar that redraws itself in a terminal, and is printed once where the output goes to a file."""

    def __init__(self) -> None:
        self._drawn = ""
        self._live = sys.stdout.isatty()

    def show(self, value: float, maximum: float) -> None:
        """Draw the bar at `value` of `maximum`."""
        filled = round(BAR_WIDTH * value / maximum) if maximum else 0
        self._drawn = f"           [{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {value:g}/{maximum:g}"
        if self._live:
            print(f"\r{self._drawn}", end="", flush=True)

    def close(self) -> None:
        """Leave the bar as it is and begin a new line."""
        if self._drawn:
            print("" if self._live else self._drawn, flush=True)
