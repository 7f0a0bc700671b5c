"""Removing old snapshots, and then what no snapshot needs any more. Blocking functions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import NeedsUnknown, SnapshotDamaged
from .manifest import mark_of, new_id
from .retention import Rule, kept
from .vault import ABANDONED, PRUNING, Vault, content_key


@dataclass(frozen=True)
class Plan:
    """What would be removed: snapshots by name, the oldest first."""

    goes: tuple[str, ...]
    stays: tuple[str, ...]


@dataclass(frozen=True)
class Pruned:
    """What was removed. ``size`` is in bytes, as they lie in the backup."""

    snapshots: int
    contents: int
    size: int


def plan(vault: Vault, rules: Sequence[Rule], now: float, *, damaged: bool = False) -> Plan:
    """Look which snapshots the rules keep; with ``damaged`` those go too that cannot be read.

    The rules hold for the workshop's snapshots and for those of each machine apart, so none displaces another's.
    """
    there = vault.snapshots()
    readable = [each for each in there if not damaged or _is_readable(vault, each)]
    keep: set[str] = set()
    for mark in {mark_of(each) for each in readable}:
        keep |= kept([each for each in readable if mark_of(each) == mark], rules, now)
    return Plan(tuple(each for each in there if each not in keep), tuple(each for each in there if each in keep))


def _is_readable(vault: Vault, snapshot: str) -> bool:
    try:
        vault.manifest(snapshot)
    except SnapshotDamaged:
        return False
    return True


def _needs(vault: Vault, snapshot: str) -> set[str]:
    """The secret names of what a snapshot needs."""
    try:
        return {vault.keys.name_of(sha256) for sha256 in {sha for _, sha, _ in vault.manifest(snapshot).contents()}}
    except SnapshotDamaged:
        raise NeedsUnknown(snapshot) from None


def prune(vault: Vault, planned: Plan, *, young: float = ABANDONED) -> Pruned:
    """Remove the snapshots of a plan, and each content that none of the others names.

    Args:
        young: a content that was written within so many seconds stays, whoever needs it: it may belong to a snapshot
            that is being taken, should the marks of the two not have been seen.

    Raises:
        BackupBusy: a snapshot is being taken.
        NeedsUnknown: one that stays cannot be read, so nothing was removed.
    """
    with vault.working(PRUNING, new_id(time.time(), secrets.token_hex(4))) as mark:
        needed: set[str] = set()
        # Before anything goes: what cannot be read must not cost what it needs.
        for snapshot in vault.snapshots():
            if snapshot not in planned.goes:
                needed |= _needs(vault, snapshot)
            mark.renew()
        for snapshot in planned.goes:
            vault.remove_snapshot(snapshot)
            mark.renew()
        count = size = 0
        for name, (length, written) in vault.contents().items():
            if name not in needed and time.time() - written >= young:
                vault.objects.delete(content_key(name))
                count, size = count + 1, size + length
                mark.renew()
        return Pruned(len(planned.goes), count, size)
