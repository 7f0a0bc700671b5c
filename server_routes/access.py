"""Who may use which route: one table, and nobody what is not in it.

Paths are without ``/api``, under which each of ComfyUI's routes exists once more. They are matched as aiohttp has
decoded and routed them, so no other spelling of an address reaches the same handler by another rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Who(Enum):
    """Whom a route answers."""

    ANYBODY = "anybody"
    """Also who is not signed in; the handler itself checks what it must."""
    PARTICIPANT = "participant"
    """Who is signed in, for what is theirs."""
    INSTRUCTOR = "instructor"


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        methods: of HTTP; GET stands for HEAD too.
        path: a regular expression for the whole path.
    """

    who: Who
    methods: frozenset[str]
    path: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Rule:
        """A row as text: ``participant GET,POST /pack/route/.*``.

        Raises:
            ValueError: it is none.
        """
        try:
            who, methods, path = text.split()
            return cls(Who(who), frozenset(methods.split(",")), re.compile(path))
        except (ValueError, re.error) as error:
            raise ValueError(
                f"{text!r} is no rule: write who, methods and path, as in `participant GET,POST /pack/route/.*`"
            ) from error


def _rules(who: Who, rows: str) -> list[Rule]:
    return [Rule.parse(f"{who.value} {row}") for row in rows.split("\n") if row.strip()]


#: Files of which a page is made. These exist at their own address alone: below ``/api``, ``/assets`` is something else.
PAGE_FILES = _rules(
    Who.PARTICIPANT,
    """
    GET             /[^/]+\\.(?:js|css|json|svg|png|ico|woff2?|html)
    GET             /(?:assets|scripts|fonts|cursor|lib|extensions|templates|docs)(?:/.*)?
    """,
)

RULES: tuple[Rule, ...] = (
    *_rules(
        Who.ANYBODY,
        """
        GET             /comfyume/(?:health|ready)
        GET,POST        /comfyume/sign-in
        GET             /comfyume/sign-in/[a-z.-]+
        POST            /comfyume/sign-out
        GET,PUT         /comfyume/worker/files/[^/]+
        GET,POST        /comfyume/join/[^/]+
        GET             /favicon\\.ico
        """,
    ),
    *_rules(
        Who.PARTICIPANT,
        # What a page asks for as it loads.
        """
        GET             /
        GET             /(?:extensions|features|i18n|embeddings|node_replacements|global_subgraphs|workflow_templates)
        GET             /(?:global_subgraphs|workflow_templates)/.*
        GET             /object_info(?:/.+)?
        GET             /models(?:/[^/]+)?
        GET             /experiment/models(?:/.*)?
        GET             /view_metadata/[^/]+
        GET             /system_stats
        GET             /comfyume/(?:me|page|allowance|my-models)
        GET             /comfyume/strings/[^/]+\\.json
        """
        # What is each person's own.
        """
        GET             /ws
        GET,POST        /(?:prompt|queue|history)
        GET             /history/[^/]+
        GET             /jobs(?:/[^/]+)?
        POST            /jobs/(?:[^/]+/)?cancel
        POST            /interrupt
        GET             /view
        POST            /upload/(?:image|mask)
        GET             /users
        GET             /(?:v2/)?userdata
        GET,POST,DELETE /userdata/.+
        GET,POST        /settings(?:/[^/]+)?
        GET             /internal/files/(?:input|output|temp)
        POST            /comfyume/sign-out/everywhere
        DELETE          /comfyume/files
        PUT,DELETE      /comfyume/my-models/[^/]+/[^/]+(?:/offer)?
        GET,POST        /comfyume/jobs
        GET             /comfyume/jobs/[^/]+
        POST            /comfyume/jobs/[^/]+/(?:cancel|again)
        GET             /comfyume/results\\.zip
        GET             /comfyume/(?:queue|webhook-secret)
        GET,PUT,DELETE  /comfyume/feeds/jobs
        """,
    ),
    *_rules(
        Who.INSTRUCTOR,
        """
        POST            /free
        POST            /users
        GET             /internal/(?:logs|logs/raw|folder_paths)
        PATCH           /internal/logs/subscribe
        GET             /comfyume/(?:activity|settings)
        GET,POST        /comfyume/people
        DELETE          /comfyume/people/[^/]+
        GET,PUT         /comfyume/limits
        PATCH           /comfyume/jobs
        POST            /comfyume/jobs/cancel
        PATCH           /comfyume/queue
        GET             /comfyume/workers
        POST            /comfyume/workers/links
        PATCH,DELETE    /comfyume/workers/[^/]+
        POST            /comfyume/messages
        GET             /comfyume/room-models
        PUT,DELETE      /comfyume/room-models/[^/]+/[^/]+/[^/]+
        GET,PUT,DELETE  /comfyume/feeds/workshop
        GET             /comfyume/workshop/.+
        PUT             /comfyume/people/[^/]+/limits
        POST            /comfyume/people/[^/]+/(?:credits|password)
        GET,POST        /comfyume/backups
        GET             /comfyume/backups/snapshots
        GET             /comfyume/(?:templates|series|metrics|cost|history(?:\\.csv|\\.json)?)
        """
        # ComfyUI-Manager's.
        """
        GET,POST        /(?:v2/)?(?:manager|comfyui_manager|customnode|externalmodel|snapshot)(?:/.*)?
        """,
    ),
)


def who_may(method: str, path: str, further: Iterable[Rule] = ()) -> Who | None:
    """Whom a route answers; None for a route that nobody has classified.

    Args:
        path: decoded, as ``request.path`` gives it.
        further: rules for routes of node packs; what the table knows is decided there.
    """
    method = "GET" if method == "HEAD" else method
    bare = path[4:] if path.startswith("/api/") else path
    for rule in (*RULES, *further):
        if method in rule.methods and rule.path.fullmatch(bare):
            return rule.who
    return next((rule.who for rule in PAGE_FILES if method in rule.methods and rule.path.fullmatch(path)), None)
