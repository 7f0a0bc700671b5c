"""The names of a workshop's keys, built in this one place and in ``lua/includes/keys.lua`` alike.

All keys of a workshop share one hash tag, so a script may touch them together on a cluster too.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What a worker touches, by what stands behind the prefix: its user may use these keys and no others, see `rights.py`.
#: The store tries one after the other, so those that are used most come first. A test compares them with the worker's
#: scripts and requests.
KEYS_OF_WORKERS = (
    *("job:*", "worker:*", "people:*", "usage", "history:*", "order:*", "allowance:*", "queued", "kind:*", "lane:*"),
    *("lease:*", "events:*", "presence:*", "nothing", "policy", "heads:*", "lanes:*", "running", "passed", "fits:*"),
    *("inbox:*", "idle", "reserved", "served", "turns", "active:*", "limits:*", "needs:*", "capabilities:*", "workers"),
    *("catalogue:*", "catalogue-version", "orphans", "script-file:*", "ledger", "ended", "webhooks"),
)
#: The same for the channels on which a worker speaks or listens.
CHANNELS_OF_WORKERS = ("events", "control", "replies:*")


@dataclass(frozen=True)
class Keys:
    """Key names of one workshop."""

    workshop: str

    @property
    def prefix(self) -> str:
        """What every key begins with; scripts take it as their first key."""
        return f"comfyume:{{{self.workshop}}}:"

    @property
    def events_channel(self) -> str:
        """Publish/subscribe channel that carries the events of all jobs to the frontends."""
        return f"{self.prefix}events"

    @property
    def control_channel(self) -> str:
        """Publish/subscribe channel that carries requests to the workers."""
        return f"{self.prefix}control"

    def replies_channel(self, name: str) -> str:
        """Publish/subscribe channel on which one frontend receives the workers' answers."""
        return f"{self.prefix}replies:{name}"

    @property
    def catalogue_version(self) -> str:
        """Counter that rises when a worker comes, goes or changes what it can run."""
        return f"{self.prefix}catalogue-version"

    @property
    def workers(self) -> str:
        """Set of the names of registered workers."""
        return f"{self.prefix}workers"

    @property
    def policy(self) -> str:
        """Hash with the way in which the queue is worked off, and the limits."""
        return f"{self.prefix}policy"

    @property
    def catalogues_seen(self) -> str:
        """List of the digests of the catalogues that were live last."""
        return f"{self.prefix}catalogues-seen"

    def limits(self, user: str) -> str:
        """Hash with the limits of one person that are not those of all."""
        return f"{self.prefix}limits:{user}"

    @property
    def activity(self) -> str:
        """Stream of who did what."""
        return f"{self.prefix}activity"

    @property
    def ledger(self) -> str:
        """Stream with an entry for each job that ended."""
        return f"{self.prefix}ledger"

    @property
    def webhooks(self) -> str:
        """Stream of ended jobs whose end is to be told somewhere."""
        return f"{self.prefix}webhooks"

    @property
    def series(self) -> str:
        """Stream of samples of the queue and the GPUs."""
        return f"{self.prefix}series"

    @property
    def sampled(self) -> str:
        """Key that is there until the next sample is due."""
        return f"{self.prefix}sampled"

    @property
    def seen(self) -> str:
        """Sorted set of the people, by when a page of theirs was open last."""
        return f"{self.prefix}seen"

    def active(self, user: str) -> str:
        """Sorted set of a user's jobs that have not ended, by their number in the queue."""
        return f"{self.prefix}active:{user}"

    def history(self, user: str) -> str:
        """Sorted set of a user's finished jobs, in the order in which they ended."""
        return f"{self.prefix}history:{user}"

    def job(self, job_id: str) -> str:
        """Hash of one job."""
        return f"{self.prefix}job:{job_id}"

    def events(self, job_id: str) -> str:
        """List of the batches of one job's events that are kept."""
        return f"{self.prefix}events:{job_id}"

    def worker(self, name: str) -> str:
        """Hash of one registered worker."""
        return f"{self.prefix}worker:{name}"

    def presence(self, name: str) -> str:
        """Key that lives as long as the worker's heartbeat does."""
        return f"{self.prefix}presence:{name}"

    def inbox(self, name: str) -> str:
        """List on which an idle worker waits for a job that is handed to it."""
        return f"{self.prefix}inbox:{name}"

    def catalogue(self, digest: str) -> str:
        """Compressed description of what a worker can run."""
        return f"{self.prefix}catalogue:{digest}"

    def capabilities(self, digest: str) -> str:
        """Set of the nodes and models that a catalogue offers, as the scripts compare them with a job's needs."""
        return f"{self.prefix}capabilities:{digest}"

    def script_file(self, sha256: str) -> str:
        """A browser script of a worker's node pack."""
        return f"{self.prefix}script-file:{sha256}"

    @property
    def users(self) -> str:
        """Hash of the workshop's users by name."""
        return f"{self.prefix}users"

    @property
    def signing_key(self) -> str:
        """The key with which frontends sign jobs; no worker reads it."""
        return f"{self.prefix}signing-key"

    def session(self, digest: str) -> str:
        """One session, by the digest of its token."""
        return f"{self.prefix}session:{digest}"

    def sessions_of(self, user: str) -> str:
        """Set of the digests of a user's sessions."""
        return f"{self.prefix}sessions-of:{user}"

    def invitation(self, digest: str) -> str:
        """A link by which a worker joins, by the digest of its token."""
        return f"{self.prefix}invitation:{digest}"

    def failures(self, who: str) -> str:
        """Counter of the sign-ins that failed lately, of a name or an address."""
        return f"{self.prefix}failures:{who}"

    def browser(self, client: str) -> str:
        """The user to whom a browser's client id belongs."""
        return f"{self.prefix}browser:{client}"
