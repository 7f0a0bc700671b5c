"""What can go wrong with a backup. Each message says what happened and what to do."""

from __future__ import annotations

from collections.abc import Sequence

#: Names that a message tells; of more it tells how many.
MOST_NAMED = 20


class BackupError(Exception):
    """Anything that this package refuses or fails to do."""


class WrongKey(BackupError):
    """The key is not the one with which this backup was begun."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"The key in COMFYUME_BACKUP_KEY is not the one with which the backup in {where} was made. Use the words "
            "that were told when it was begun; without them nothing of it can be read."
        )


class NoBackup(BackupError):
    """There is no backup at this place."""

    def __init__(self, where: str) -> None:
        super().__init__(f"There is no backup in {where}. Look at COMFYUME_BACKUP, or make one with `comfyume backup`.")


class NewerFormat(BackupError):
    """A later version of comfyume made this."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was made by a newer comfyume. Update comfyume here, then try again.")


class SnapshotDamaged(BackupError):
    """A snapshot's manifest is not whole, or is not what was written."""

    def __init__(self, snapshot: str, problem: str) -> None:
        super().__init__(
            f"The manifest of the snapshot {snapshot} {problem}, so nothing was restored. Choose another snapshot "
            "(comfyume snapshots), or add --what-is-there to restore the part of it that can be read."
        )
        self.snapshot = snapshot


class ContentDamaged(BackupError):
    """An object of the backup is cut short, or is not what was written."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is damaged in the backup: it is cut short or was changed.")
        self.what = what


class SnapshotIncomplete(BackupError):
    """Contents that a snapshot names are not in the backup."""

    def __init__(self, snapshot: str, missing: Sequence[str]) -> None:
        named = ", ".join(missing[:MOST_NAMED])
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        super().__init__(
            f"Of the snapshot {snapshot} this is missing or damaged in the backup: {named}{more}. Nothing was "
            "restored. Add --what-is-there to restore the rest."
        )
        self.missing = tuple(missing)


class EscapingName(BackupError):
    """A name in a snapshot would leave the folder that it belongs in."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The snapshot names {name!r}, which leads out of its folder. Nothing was restored.")


class NeedsUnknown(BackupError):
    """A snapshot that would stay cannot be read, so it is not known which contents it needs."""

    def __init__(self, snapshot: str) -> None:
        super().__init__(
            f"The snapshot {snapshot} is damaged, so it is not known which contents it needs, and nothing was removed. "
            "Add --damaged to remove such snapshots too."
        )


class NoSuchSnapshot(BackupError):
    """No snapshot is meant by these words."""


class WrongMoment(BackupError):
    """These words name no moment."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} names no moment. Write it as `2026-11-30 14:00`, `14:00`, `yesterday`, `2h ago`, or take the "
            "name of a snapshot from `comfyume snapshots`."
        )


class WrongRule(BackupError):
    """These words are no rule of what to keep."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} says not what to keep. Write it as 24h=24,7d=7: of the last 24 hours 24 snapshots, of the last "
            "7 days 7."
        )


class BackupBusy(BackupError):
    """Something else works on this backup, and the two would harm each other."""
