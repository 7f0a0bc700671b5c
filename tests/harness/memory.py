"""The memory of a process, as Linux counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """All in kB, from ``/proc/PID/smaps_rollup`` and, for the peak, ``/proc/PID/status``.

    Attributes:
        resident: what of the process is in memory (RSS), whether other processes have it mapped too or not. It does
            not depend on who else runs.
        proportional: the same, but a page that several processes have mapped counts in parts (PSS). The more
            ComfyUI processes run, the smaller it is.
        private: pages that no other process has mapped (USS). Of the libraries' files it counts all in a process that
            runs alone, and nothing beside a second one.
        anonymous: what comes from no file: heaps, stacks, tensors. This much each further process takes for certain.
        peak: the most that was resident since the start or since ``forget_peak``.
    """

    resident: int
    proportional: int
    private: int
    anonymous: int
    peak: int

    def __str__(self) -> str:
        figures = {
            "RSS": self.resident,
            "peak": self.peak,
            "PSS": self.proportional,
            "private": self.private,
            "anonymous": self.anonymous,
        }
        return ", ".join(f"{name} {kilobytes / 1024:.0f}" for name, kilobytes in figures.items()) + " MiB"


def memory_of(pid: int) -> Memory:
    """The memory of a process now. Takes some milliseconds, during which the process may have to wait for pages."""
    sizes: dict[str, int] = {}
    for file in ("smaps_rollup", "status"):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            name, _, rest = line.partition(":")
            if rest.endswith(" kB"):
                sizes[name] = int(rest.split()[0])
    private = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Rss"], sizes["Pss"], private, sizes["Anonymous"], sizes["VmHWM"])


def forget_peak(pid: int) -> None:
    """Let the peak begin anew with what is resident now (``man 5 proc``, clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
