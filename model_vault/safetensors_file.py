"""Looks whether a safetensors file is whole by its header, without reading its tensors. Blocking.

The format (https://huggingface.co/docs/safetensors): eight bytes that tell how long the header is, the header as JSON,
then the tensors' bytes, one behind the other and without a hole.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from .errors import Damaged

#: Bytes of a header; the format's own limit.
LONGEST_HEADER = 100_000_000
#: Bits of a number of each kind.
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


def check_whole(path: Path, name: str = "") -> None:
    """See that a file has what its header says, and nothing else; ``name`` is what people know it by.

    Raises:
        Damaged: it has not; the problem says what is wrong.
        OSError: it cannot be read.
    """
    where = name or str(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= LONGEST_HEADER:
            raise Damaged(where, f"it is no safetensors file; it begins with {start!r}")
        if 8 + length > size:
            raise Damaged(where, f"it ends within its header, after {size:,} bytes")
        header = file.read(length)
    try:
        tensors = json.loads(header)
        end = max((_end_of(each) for name, each in tensors.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(where, f"its header is not that of a safetensors file ({error})") from error
    whole = 8 + length + end
    if size < whole:
        raise Damaged(where, f"it is cut off: {size:,} of {whole:,} bytes are there")
    if size > whole:
        raise Damaged(where, f"it has {size - whole:,} bytes more than its header tells of")


def _end_of(tensor: dict[str, Any]) -> int:
    """Where the bytes of a tensor end, behind the header. Raises ValueError where it cannot be so."""
    begin, end = tensor["data_offsets"]
    bits = BITS.get(tensor["dtype"])
    if not (isinstance(begin, int) and isinstance(end, int) and 0 <= begin <= end):
        raise ValueError(f"a tensor lies from {begin} to {end}")
    if bits is not None and end - begin != -(-math.prod(tensor["shape"]) * bits // 8):
        raise ValueError(f"a tensor of shape {tensor['shape']} has {end - begin} bytes")
    return end
