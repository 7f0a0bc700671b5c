"""How many pictures a result is, by the library with which ComfyUI itself makes films."""

from __future__ import annotations

import logging
import mimetypes
from pathlib import Path

import av
from PIL import Image

log = logging.getLogger("comfyume")


def count_frames(file: Path) -> int:
    """Frames of a film or an animation, 1 for an image, 0 for what is neither; blocking.

    A film that does not tell how many it has is taken by its length, and what cannot be read for one picture.
    """
    kind = (mimetypes.guess_type(file.name)[0] or "").partition("/")[0]
    count = {"video": _frames_of_film, "image": _frames_of_image}.get(kind, lambda _: 0)
    try:
        return count(file)
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        log.debug("the frames of %s are not known: %s", file.name, error)
        return 1


def _frames_of_film(file: Path) -> int:
    with av.open(str(file)) as film:
        stream = film.streams.video[0]
        length = (film.duration or 0) / av.time_base
        return int(stream.frames or max(1, round(length * float(stream.average_rate or 0))))


def _frames_of_image(file: Path) -> int:
    with Image.open(file) as image:
        return int(getattr(image, "n_frames", 1))
