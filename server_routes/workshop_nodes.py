"""The nodes and models of the workers, as a frontend shows them and checks graphs against them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..blobs.filing import write_whole
from ..comfyui_seams import model_lists, node_stubs, validation
from ..comfyui_seams.answers import Verdict
from ..job_queue.catalogue import Catalogue, CatalogueStore
from ..job_queue.errors import QueueError
from ..job_queue.jobs import MemoryNeed
from .asking import Asking
from .memory_needs import memory_need
from .people_models import PeopleModels
from .prompt_limits import FEW_NODES, readable, too_many_nodes

log = logging.getLogger("comfyume")

#: Seconds that a submit waits for a worker to check a graph; the check is made again when a worker claims the job.
CHECK_PATIENCE = 5.0


@dataclass(frozen=True)
class LiveWorker:
    """A worker that is there now."""

    name: str
    description: dict[str, Any]
    catalogue: Catalogue
    busy: bool


@dataclass(frozen=True)
class Offer:
    """What the room can run: the live workers, or the ones that were there last when none is."""

    workers: list[LiveWorker] = field(default_factory=list)
    catalogues: list[Catalogue] = field(default_factory=list)
    models: dict[str, list[str]] | None = None
    own: frozenset[str] = frozenset()
    checked_by_worker: frozenset[str] = frozenset()


class WorkshopNodes:
    """Keeps ComfyUI's nodes and model lists equal to what the workers have."""

    def __init__(self, catalogues: CatalogueStore, asking: Asking, scripts_folder: Path, brought: PeopleModels) -> None:
        self._brought = brought
        self._catalogues = catalogues
        self._asking = asking
        self._scripts_folder = scripts_folder
        self._known: dict[str, Catalogue] = {}
        self._offer = Offer()
        self._needs: tuple[dict[str, Any], Offer, frozenset[str]] | None = None
        self._refreshing = asyncio.Lock()
        #: Held while a thread reads the definitions of nodes, and while they change.
        self.definitions = asyncio.Lock()
        self.extensions: dict[str, dict[str, Path]] = {}

    @property
    def workers(self) -> list[LiveWorker]:
        """The live workers."""
        return self._offer.workers

    def files(self, folder: str) -> list[str] | None:
        """The models of a folder on any worker; None when no worker was ever seen."""
        return None if self._offer.models is None else self._offer.models.get(folder, [])

    async def refresh(self) -> None:
        """Read who is there and take over what they can run."""
        async with self._refreshing:
            live = await self._catalogues.live()
            digests = sorted({worker["catalogue"] for worker in live.values()})
            if digests:
                await self._catalogues.note_seen(digests)
            else:
                digests = await self._catalogues.last_known()
            for digest in digests:
                if digest not in self._known:
                    catalogue = await self._catalogues.load(digest)
                    if catalogue is not None:
                        self._known[digest] = catalogue
            self._known = {digest: self._known[digest] for digest in digests if digest in self._known}
            workers = [
                LiveWorker(name, worker["description"], self._known[worker["catalogue"]], worker["job"] is not None)
                for name, worker in live.items()
                if worker["catalogue"] in self._known
            ]
            async with self.definitions:
                self._apply(workers, list(self._known.values()))
            await self._fetch_scripts(self._known.values())

    def _apply(self, workers: list[LiveWorker], catalogues: list[Catalogue]) -> None:
        models: dict[str, set[str]] = {}
        definitions: dict[str, dict[str, Any]] = {}
        lists_of_nodes: dict[str, dict[str, str]] = {}
        checked: set[str] = set()
        for catalogue in catalogues:
            for folder, files in catalogue.models.items():
                models.setdefault(folder, set()).update(files)
            for name, definition in catalogue.nodes.items():
                if name not in definitions:
                    definitions[name] = definition
                    lists_of_nodes[name] = catalogue.lists.get(name, {})
            checked |= catalogue.checked_by_worker
        own = frozenset(node_stubs.own_classes())
        lists = {folder: sorted(files) for folder, files in models.items()} if catalogues else None
        self._offer = Offer(workers, catalogues, lists, own, frozenset(checked - own))
        model_lists.add_folders(list(models))
        node_stubs.replace_all(definitions, self._offer.checked_by_worker, lists_of_nodes)

    async def _fetch_scripts(self, catalogues: Any) -> None:
        """Bring the browser files of the workers' node packs here."""
        extensions: dict[str, dict[str, Path]] = {}
        for catalogue in catalogues:
            for pack, files in catalogue.extensions.items():
                extensions.setdefault(pack, {})
                for name, sha256 in files.items():
                    path = self._scripts_folder / sha256
                    if not path.exists():
                        content = await self._catalogues.load_script(sha256)
                        if content is None:
                            continue
                        await asyncio.to_thread(write_whole, path, content)
                    extensions[pack].setdefault(name, path)
        self.extensions = extensions

    def needs_of(self, prompt: dict[str, Any]) -> frozenset[str]:
        """What a worker must have to run a graph."""
        # The check asks, and right afterwards the submit.
        if self._needs is None or self._needs[0] is not prompt or self._needs[1] is not self._offer:
            needs = frozenset(need for node in prompt.values() for need in self._needs_of_node(node))
            self._needs = (prompt, self._offer, needs)
        return self._needs[2]

    def _needs_of_node(self, node: dict[str, Any]) -> list[str]:
        name = node["class_type"]
        needs = [f"node:{name}"]
        folders = next(
            (catalogue.folders[name] for catalogue in self._offer.catalogues if name in catalogue.folders), []
        )
        models = self._offer.models or {}
        inputs = node.get("inputs")
        for value in inputs.values() if isinstance(inputs, dict) else ():
            if isinstance(value, str):
                needs += [f"model:{folder}/{value}" for folder in folders if value in models.get(folder, ())]
        return needs

    def memory_of(self, prompt: dict[str, Any], needs: frozenset[str], brought: Sequence[int] = ()) -> MemoryNeed:
        """What a graph with these needs tells of the memory that it takes.

        Args:
            brought: bytes of the models that people have brought for it.
        """
        models = [need.removeprefix("model:") for need in needs if need.startswith("model:")]
        sizes = [max(catalogue.sizes.get(model, 0) for catalogue in self._offer.catalogues) for model in models]
        return memory_need(prompt, [*sizes, *brought])

    async def check(self, prompt_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """ComfyUI's check of a graph, for the workers that would run it."""
        error = too_many_nodes(prompt)
        if error is not None:
            return Verdict(False, error, [], {})
        known = all(isinstance(node, dict) and "class_type" in node for node in prompt.values())
        capable = self._capable_workers(prompt) if known else []
        if capable and any(node["class_type"] in self._offer.checked_by_worker for node in prompt.values()):
            verdict = await self._ask_worker(capable, prompt_id, prompt, outputs)
            if verdict is not None:
                return readable(verdict)
        if len(prompt) > FEW_NODES:
            verdict = await asyncio.to_thread(validation.validate_now, prompt_id, prompt, outputs)
        else:
            verdict = await validation.validate(prompt_id, prompt, outputs)
        if verdict.valid and not capable and self._offer.workers:
            return self._nobody_can(prompt, verdict)
        return readable(verdict)

    def _capable_workers(self, prompt: dict[str, Any]) -> list[LiveWorker]:
        needs = self.needs_of(prompt)
        workers = [worker for worker in self._offer.workers if needs <= worker.catalogue.capabilities]
        return sorted(workers, key=lambda worker: worker.busy)

    async def _ask_worker(
        self, workers: list[LiveWorker], prompt_id: str, prompt: dict[str, Any], outputs: list[str] | None
    ) -> Verdict | None:
        try:
            answer = await self._asking.ask(
                workers[0].name,
                "validate",
                timeout=CHECK_PATIENCE,
                job=prompt_id,
                prompt=prompt,
                outputs=outputs,
                models=await asyncio.to_thread(self._brought.of_visit),
            )
        except asyncio.TimeoutError:
            log.warning(
                "[comfyume] worker %s did not check a graph in time; it will when it claims it", workers[0].name
            )
            return None
        # The check casts values in place, and what runs must be what was checked.
        prompt.clear()
        prompt.update(answer["prompt"])
        self._needs = None
        return Verdict(*answer["verdict"])

    def _nobody_can(self, prompt: dict[str, Any], verdict: Verdict) -> Verdict:
        """Say what the best worker lacks, at the nodes that need it."""
        needs = self.needs_of(prompt)
        best = min(self._offer.workers, key=lambda worker: len(needs - worker.catalogue.capabilities))
        lacking = needs - best.catalogue.capabilities
        node_errors = {}
        for node_id, node in prompt.items():
            missing = sorted(lacking.intersection(self._needs_of_node(node)))
            if missing:
                names = ", ".join(need.partition(":")[2] for need in missing)
                details = f"No worker that is there now has all that this prompt needs; {best.name} lacks {names}."
                problem = {
                    "type": "comfyume_no_worker",
                    "message": "No worker can run this",
                    "details": details,
                    "extra_info": {},
                }
                node_errors[node_id] = {
                    "errors": [problem],
                    "dependent_outputs": verdict.outputs,
                    "class_type": node["class_type"],
                }
        details = "\n".join(entry["errors"][0]["details"] for entry in node_errors.values())
        error = {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": details,
            "extra_info": {},
        }
        return Verdict(False, error, [], node_errors)

    async def metadata(self, folder: str, file: str) -> Any:
        """What a model's header says, asked of a worker that has the model; None when none has."""
        for worker in self._offer.workers:
            if file in worker.catalogue.models.get(folder, ()):
                try:
                    return await self._asking.ask(
                        worker.name, "metadata", timeout=CHECK_PATIENCE, folder=folder, file=file
                    )
                except asyncio.TimeoutError:
                    continue
        return None

    async def keep_fresh(self) -> None:
        """Refresh now and then, for changes whose notice was lost."""
        while True:
            try:
                await self.refresh()
            except QueueError as error:
                log.warning("[comfyume] the workers are not known: %s", error)
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(10.0)
