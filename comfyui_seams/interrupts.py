"""Seam: ``nodes.interrupt_processing``, which native ``/interrupt`` calls without saying whose prompt it means."""

from __future__ import annotations

import nodes

from .context import Cancel, current_visit

_interrupt_here = nodes.interrupt_processing


def interrupt_here() -> None:
    """Interrupt what this process executes."""
    _interrupt_here(True)


def _interrupt(value: bool = True) -> None:
    visit = current_visit.get()
    if visit is None or not value:
        _interrupt_here(value)
        return
    target = visit.interrupt_target
    visit.changes.append(Cancel("running", (target,) if target else None))


def install() -> None:
    """Let a person's interrupt reach that person's jobs on their workers, and no other's."""
    nodes.interrupt_processing = _interrupt
