"""Puts models of this machine into a vault, for other machines and for later. Blocking."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ..blobs.errors import BlobError
from ..blobs.object_store import Moved
from .errors import Changed, ModelError
from .here import Known, LocalFile, LocalModels, state_of
from .locating import Located
from .names import SAFETENSORS, check_kind
from .needs import Need
from .places import Offer, Vault
from .pull import AT_ONCE, Report, Watch
from .safetensors_file import check_whole


class Push:
    """One push.

    Args:
        urls: where models came from, by folder and name, for those of which nothing is noted.
        replace: whether another content under a model's name may be replaced there.
    """

    def __init__(
        self,
        here: LocalModels,
        vault: Vault,
        *,
        urls: dict[tuple[str, str], str] | None = None,
        watch: Watch | None = None,
        at_once: int = AT_ONCE,
        allow_pickles: bool = False,
        replace: bool = False,
    ) -> None:
        self._here = here
        self._vault = vault
        self._urls = urls or {}
        self._watch = watch or Watch()
        self._at_once = at_once
        self._allow_pickles = allow_pickles
        self._replace = replace
        self._report = Report()
        self._is_stopped = False

    def run(self, files: Iterable[LocalFile]) -> Report:
        """Put these there, several at once. What is refused or damaged does not keep the others from going."""
        wanted = list(files)
        self._watch.begins(len(wanted), sum(file.size for file in wanted))
        with ThreadPoolExecutor(self._at_once, "comfyume-push") as pool:
            try:
                for done in [pool.submit(self._put, file) for file in wanted]:
                    done.result()
            except BaseException:
                self._is_stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self._report

    def _put(self, file: LocalFile) -> None:
        need = Need(file.folder, file.name)
        located = Located(need, is_here=True, size=file.size)
        try:
            is_new = self._send(file)
        except (ModelError, BlobError, OSError) as error:
            self._report.failed[need.key] = str(error)
            self._watch.failed(located, str(error))
            return
        if is_new:
            self._report.come[need.key] = self._vault.name
            self._watch.has_come(located, self._vault.name)

    def _send(self, file: LocalFile) -> bool:
        check_kind(file.folder, file.name, allow_pickles=self._allow_pickles)
        if file.name.lower().endswith(SAFETENSORS):
            check_whole(file.path, str(file.path))
        known = self._here.known(file.folder, file.name)
        if known is None or known.state != state_of(file.path):
            self._watch.hashes(f"{file.folder}/{file.name}", file.size)
        digest = self._here.digest(file.folder, file.name, file.path)
        if known is not None and known.digest != digest:
            if not self._replace:
                raise Changed(file.path)
            known = Known(digest, state=state_of(file.path))
            self._here.note(file.folder, file.name, known)
        url = known.url if known is not None else self._urls.get((file.folder, file.name), "")
        offer = Offer(file.folder, file.name, digest.size, digest.sha256, url)
        return self._vault.add(offer, file.path, self._telling(file), replace=self._replace)

    def _telling(self, file: LocalFile) -> Moved:
        def moved(count: int) -> None:
            if self._is_stopped:
                raise InterruptedError(f"{file.path} was not put there")
            self._watch.moved(f"{file.folder}/{file.name}", count)

        return moved
