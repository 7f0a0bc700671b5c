"""Turning a prompt that ComfyUI has accepted into a job of the workshop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from ..blobs.digest import Digest, DigestCache
from ..comfyui_seams import server, sockets
from ..comfyui_seams.context import Folders, Submit, Visit
from ..job_queue.jobs import Submission
from ..job_queue.sealing import Sealer
from ..model_vault.shelves import MODEL
from .cold_files import ColdFiles
from .job_bucket import JobBucket
from .job_signatures import JobSignatures
from .people_models import PeopleModels, may_name
from .webhooks import checked
from .workshop_nodes import WorkshopNodes

#: A string longer than this names no file.
LONGEST_NAME = 1024
#: Characters of a workflow's name.
MOST_OF_A_NAME = 120
#: Most files that one folder named in a graph brings along.
MOST_FILES_OF_A_FOLDER = 10_000


class Submissions:
    """Makes the job of a prompt: what it needs, which files it reads, where its results go."""

    def __init__(
        self,
        nodes: WorkshopNodes,
        shared: Callable[[str], dict[str, Any] | None],
        sealer: Sealer,
        signatures: JobSignatures,
        webhook_hosts: Collection[str],
        brought: PeopleModels,
        bucket: JobBucket | None = None,
        cold: ColdFiles | None = None,
    ) -> None:
        self._cold = cold
        self._bucket = bucket
        self._webhook_hosts = webhook_hosts
        self._brought = brought
        self._nodes = nodes
        self._sealer = sealer
        self._shared = shared
        self._signatures = signatures
        self._digests = DigestCache()

    async def make(self, visit: Visit, submit: Submit, disk: int | None = None) -> Submission:
        """The job of a prompt.

        Args:
            disk: bytes that the person's files take, where there is a limit to it.

        Raises:
            TypeError: its name is no text.
            SecretsUnreadable: it has API keys, and they cannot be sealed.
            WebhookRefused: its end is to be told where nothing may be told.
            StoreUnavailable, StoreRefused: see ``store_errors``.
        """
        _, job_id, prompt, extra_data, outputs, secrets = submit.item
        client = extra_data.get("client_id")
        names = (
            await asyncio.to_thread(self._names_of, prompt, visit) if visit.is_large else self._names_of(prompt, visit)
        )
        found = await asyncio.to_thread(self._found, names, visit) if names else []
        files: list[dict[str, Any]] = []
        for kind, path, file in found:
            digest = await self._digest_of(file)
            files.append({"kind": kind, "path": path, "sha256": digest.sha256, "size": digest.size})
        workflow = (extra_data.get("extra_pnginfo") or {}).get("workflow") or {}
        brief_extra: dict[str, Any] = {"create_time": extra_data.get("create_time")}
        if isinstance(workflow, dict) and workflow.get("id") is not None:
            brief_extra["extra_pnginfo"] = {"workflow": {"id": workflow["id"]}}
        needs = self._nodes.needs_of(prompt)
        return Submission(
            job_id=job_id,
            user=visit.user,
            order=visit.order,
            payload={"prompt": prompt, "extra_data": extra_data, "outputs": list(outputs)},
            secrets=await asyncio.to_thread(self._sealer.seal, job_id, secrets) if secrets else b"",
            envelope={
                "frontend": server.own_address(),
                "shared": self._shared(visit.user),
                "bucket": self._bucket.mark if self._bucket is not None else None,
                "features": sockets.features_of(client),
                "files": files,
                "signature": await self._signatures.of(job_id, visit.user, files),
            },
            brief={"extra_data": brief_extra},
            client=client if isinstance(client, str) else "",
            needs=needs,
            memory=self._nodes.memory_of(prompt, needs, [file["size"] for file in files if file["kind"] == MODEL]),
            disk=disk,
            name=_name_of(visit.name),
            webhook="" if visit.webhook is None else checked(visit.webhook, self._webhook_hosts),
        )

    def _names_of(self, prompt: dict[str, Any], visit: Visit) -> set[str]:
        """What may name a file or a model of people, among the inputs of a graph's nodes."""
        texts = set(_strings(prompt))
        return {text for text in texts if may_name(text) or may_be_file(text, visit.folders)}

    def _found(self, names: set[str], visit: Visit) -> list[tuple[str, str, Path]]:
        """The files and models that a graph names: kind, path below the folder of that kind, and the file."""
        models = self._brought.named(names, visit.user)
        shelves = self._brought.shelves
        return [
            *named_files(names, visit.folders),
            *((MODEL, model.path, shelves.file(model)) for model in models),
        ]

    async def _digest_of(self, file: Path) -> Digest:
        """What a job's file holds; it is on its way to the workers then, where there is a bucket for that."""
        cold = self._cold.storage.digest_of(file) if self._cold is not None else None
        if cold is not None:
            return cold
        digest = await self._digests.of(file)
        if self._bucket is not None:
            self._bucket.ship(file, digest)
        return digest


def _name_of(told: Any) -> str:
    """The name of a workflow as it is shown: one line, of a length that lists can hold."""
    if not isinstance(told, str):
        raise TypeError("the name of a workflow is a text")
    return " ".join(told.split())[:MOST_OF_A_NAME]


def _strings(prompt: dict[str, Any]) -> Iterator[str]:
    """All strings among the inputs of a graph's nodes."""
    stack = [node.get("inputs") for node in prompt.values()]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if 0 < len(value) <= LONGEST_NAME and "\0" not in value and "\n" not in value:
                yield value
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def may_be_file(name: str, folders: Folders) -> bool:
    """A quick look whether a string names something in the person's folders, as ComfyUI's own validation takes one."""
    bare, _, _ = name.rpartition(" [") if name.endswith("]") else (name, "", "")
    return any(os.path.lexists(os.path.join(folder, bare or name)) for _, folder in folders)


def named_files(names: set[str], folders: Folders) -> Iterator[tuple[str, str, Path]]:
    """The person's files that these strings name in ComfyUI's way: ``a.png``, ``sub/a.png``, ``a.png [output]``.

    A name of a folder stands for the files in it. Blocking.

    Yields:
        The kind (``input``, ``output``, ``temp``), the path below its folder with ``/``, and the file.
    """
    roots = {"input": folders.input.resolve(), "output": folders.output.resolve(), "temp": folders.temp.resolve()}
    seen = set()
    for name in names:
        kind, bare = "input", name
        for candidate in roots:
            if name.endswith(f"[{candidate}]"):
                kind, bare = candidate, name[: -len(candidate) - 2].rstrip()
                break
        root = roots[kind]
        if not bare or bare.startswith("/"):
            continue
        try:
            path = (root / bare).resolve()
            if path == root or not path.is_relative_to(root) or not path.exists():
                continue
        except OSError:
            # Too long for a file name: it is some other text.
            continue
        for file in _files_of(path):
            if not file.resolve().is_relative_to(root):
                # A link in a folder.
                continue
            relative = os.path.relpath(root / bare / file.relative_to(path) if path.is_dir() else root / bare, root)
            key = (kind, relative.replace(os.sep, "/"))
            if key not in seen:
                seen.add(key)
                yield (*key, file)


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    count = 0
    for folder, _, names in os.walk(path):
        for name in names:
            count += 1
            if count > MOST_FILES_OF_A_FOLDER:
                return
            yield Path(folder, name)
