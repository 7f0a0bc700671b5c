"""What can go wrong with a model. Each message says what happened and what to do."""

from __future__ import annotations

from pathlib import Path


class ModelError(Exception):
    """Anything that this package refuses or fails to do with a model."""


class UnsafeModelName(ModelError, ValueError):
    """A folder or file name that would leave the models' folder."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(
            f"{f'{folder}/{name}'[:200]!r} is no place for a model. "
            "Name one of ComfyUI's model folders, and a file of a model in it."
        )


class NoSuchModel(ModelError):
    """There is no such model on this shelf."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(f"There is no {folder}/{name} here.")


class NameTaken(ModelError):
    """Another model has the name."""

    def __init__(self, folder: str, name: str, who: str) -> None:
        super().__init__(
            f"{who} another {folder}/{name} already. Delete that one first, or give this one another name."
        )


class KindRefused(ModelError):
    """A kind of file that may run programs as it is loaded, or whose content nobody can check."""

    def __init__(self, folder: str, name: str, *, pickle: bool) -> None:
        why = (
            "a file of this kind can run any program as it is loaded"
            if pickle
            else "only safetensors files can be checked for what they are"
        )
        super().__init__(
            f"{folder}/{name} is refused: {why}. Look for the model as .safetensors, or allow it with --allow-pickles "
            "(COMFYUME_MODELS_PICKLES=true on a worker) if you trust where it comes from."
        )


class SourceRefused(ModelError):
    """An address from which nothing is fetched."""

    def __init__(self, url: str, why: str, advice: str) -> None:
        super().__init__(f"Nothing is fetched from {url[:300]}: {why}. {advice}")


class SourceFailed(ModelError):
    """A source does not give what it is asked for."""

    def __init__(
        self, url: str, reason: str, advice: str = "Look at the address in a browser, or try again later."
    ) -> None:
        super().__init__(f"Fetching {url} failed: {reason}. {advice}")


class SourceUnreachable(SourceFailed):
    """A source does not answer, or the connection to it broke."""


class Gated(ModelError):
    """A source gives the model only to who has accepted its conditions; ``page`` is where."""

    def __init__(self, url: str, page: str, *, has_token: bool) -> None:
        what = (
            f"The account of HF_TOKEN has not accepted the conditions at {page}, or may not see that page. "
            "Accept them there, and see that the token may read gated repositories."
            if has_token
            else f"Sign in at {page} and accept its conditions, make a token at "
            "https://huggingface.co/settings/tokens and set HF_TOKEN to it. Where there is no such page, it has moved."
        )
        super().__init__(f"{url} is given only to who may have it. {what}")
        self.page = page


class NoSource(ModelError):
    """A model of which nobody says where to get it."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(
            f"Nobody says where to get {f'{folder}/{name}' if folder else name}. Put it into a place of "
            "COMFYUME_MODELS (`comfyume models push` on a machine that has it), or write its address into the "
            "workflow's node."
        )


class NotAsked(ModelError):
    """A model that only its source has, which may not be asked."""

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(
            f"{folder}/{name} is in no place of COMFYUME_MODELS, and its source was not asked (--offline)."
        )


class OtherFileHere(ModelError):
    """Another file has the name of a model that is wanted."""

    def __init__(self, path: Path, found: str, wanted: str) -> None:
        super().__init__(
            f"{path} is another file than the one that is needed: it has {found} and not {wanted}. "
            "Rename it, or let it be replaced with --replace."
        )


class OtherFileThere(ModelError):
    """A place has another file under the name of a model that is to be put there."""

    def __init__(self, place: str, folder: str, name: str) -> None:
        super().__init__(
            f"{place} has another file as {folder}/{name}. Give this one another name, or replace that one with "
            "--replace."
        )


class Damaged(ModelError):
    """A file that is not what its name says."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where} is damaged: {problem}. Get it again.")
        self.problem = problem


class Changed(ModelError):
    """A model of this machine is not what it was when it came, or when it was pushed last."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} has changed since it was noted what it has. If that was meant, push it with --replace; "
            "else delete it and pull it again."
        )


class NoRoom(ModelError):
    """The models that are wanted do not fit."""

    def __init__(self, count: int, needed: int, folder: Path, free: int) -> None:
        gb = 1e9
        super().__init__(
            f"{count} models need {needed / gb:.1f} GB in {folder}, and {free / gb:.1f} GB are free there: nothing was "
            f"fetched. Free {(needed - free) / gb:.1f} GB, or name fewer models or templates."
        )


class PullUnderWay(ModelError):
    """Another process fills the same folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"Another pull fills {folder} right now. Wait until it has ended; what it brings stays.")


class NoSuchPlace(ModelError):
    """A place for models that is not there."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} is no place for models: {why}. Correct COMFYUME_MODELS or the option that names it.")
