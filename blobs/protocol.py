"""What both ends of a transfer agree on.

Download: GET with `Range`. Upload: PUT of the content with `X-Comfyume-Sha256` and `X-Comfyume-Size`, and with
`Content-Range: bytes START-END/TOTAL` if it does not begin at byte 0. The receiver answers 409 and `{"offset": N}` when
it wants the bytes from N on, also to an empty PUT with `Content-Range: bytes */TOTAL`, which asks just that.

A PUT with `X-Comfyume-Bucket: 1` has no body: the content lies in the bucket that both reach. The receiver fetches it
from there, and answers 202 and `{"arrived": N}` while it does; the sender asks again then. With 409 and the offset 0 it
says that it cannot, and wants the bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SHA256_HEADER = "X-Comfyume-Sha256"
SIZE_HEADER = "X-Comfyume-Size"
BUCKET_HEADER = "X-Comfyume-Bucket"

SMALL = 256 * 1024
"""Up to this many bytes a blob goes through memory in one piece and is never resumed."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19})\Z", re.ASCII)


@dataclass(frozen=True)
class ContentRange:
    """The bytes `start` to `end` (inclusive) of `total`; both None where only the total is told."""

    start: int | None
    end: int | None
    total: int

    @classmethod
    def parse(cls, header: str) -> ContentRange | None:
        """Read a `Content-Range` header; None if it is malformed."""
        match = _CONTENT_RANGE.match(header.strip())
        if not match:
            return None
        total = int(match[3])
        if match[1] is None:
            return cls(None, None, total)
        start, end = int(match[1]), int(match[2])
        return cls(start, end, total) if start <= end < total else None

    def __str__(self) -> str:
        span = "*" if self.start is None else f"{self.start}-{self.end}"
        return f"bytes {span}/{self.total}"
