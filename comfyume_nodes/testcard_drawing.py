"""The picture of the test card: pure drawing, knows no ComfyUI."""

from __future__ import annotations

import colorsys
import math
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

#: Pictures up to this many pixels are drawn at twice their size and shrunk, which smooths circles and letters.
SMOOTH_PIXELS = 1536 * 1536
COLOUR_BARS = (
    (235, 235, 235),
    (235, 220, 20),
    (20, 215, 225),
    (30, 200, 60),
    (215, 40, 200),
    (225, 45, 40),
    (35, 60, 220),
)
GREY_STEPS = 8
LABEL_CHARACTERS = 48
#: Letters and signs that Unicode does not take apart into a plain letter and an accent.
UNDECOMPOSED = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)
INK = (12, 14, 22)
PAPER = (245, 245, 240)

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]


def draw_card(width: int, height: int, seed: int, label: str) -> Image.Image:
    """Draw the finished card of this size in pixels: the same seed and label always give the same picture."""
    scale = 2 if width * height <= SMOOTH_PIXELS else 1
    random = np.random.default_rng(seed)
    # Neighbouring seeds get hues far apart: a golden-ratio walk round the colour circle.
    hue = (seed % 10_007) * 0.618034 % 1.0
    card = _background(width * scale, height * scale, hue, random)
    draw = ImageDraw.Draw(card)
    _grid(draw, card.size)
    _corner_circles(draw, card.size, hue)
    _disc(card, hue, random, printable(label), f"seed {seed}")
    return card if scale == 1 else card.resize((width, height), Image.Resampling.BOX)


def printable(label: str) -> str:
    """Reduce the label to one line of what the font inside Pillow can draw: Latin letters without accents.

    A font of the system would know more letters, but two workers would then draw two pictures from one seed.
    """
    plain = unicodedata.normalize("NFKD", label.translate(UNDECOMPOSED)).encode("ascii", "ignore").decode()
    return " ".join(plain.split())[:LABEL_CHARACTERS]


def unfinished(card: Image.Image, progress: float, seed: int) -> Image.Image:
    """Show the card as it looks part of the way: blurred and noisy at 0, exactly itself at ``progress`` 1."""
    missing = 1.0 - min(max(progress, 0.0), 1.0)
    if missing == 0.0:
        return card
    blurred = card.filter(ImageFilter.GaussianBlur(missing**1.5 * max(card.size) / 12))
    grain = np.random.default_rng(seed).integers(0, 256, (card.height, card.width, 3), dtype=np.uint8)
    return Image.blend(blurred, Image.fromarray(grain), 0.75 * missing**2)


def _background(width: int, height: int, hue: float, random: np.random.Generator) -> Image.Image:
    """Two related colours flow into each other along waves whose direction and length the seed picks."""
    angle = float(random.uniform(0, 2 * math.pi))
    waves = float(random.uniform(1.5, 4.0))
    # Drawn small and enlarged: the waves are smooth, and a picture of 4096 x 4096 would need gigabytes of floats.
    y, x = np.mgrid[0:128, 0:128] / 127.0
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    mix = 0.5 + 0.5 * np.sin(waves * (along + 0.25 * np.sin(2 * math.pi * across)) * math.pi)
    low = np.array(_colour(hue, 0.75, 0.32))
    high = np.array(_colour(hue + 0.12, 0.60, 0.82))
    pixels = low + mix[..., None] * (high - low)
    return Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def _grid(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    width, height = size
    cell = min(size) / 8
    line = max(1, round(min(size) / 256))
    for position in _centred(width, cell):
        draw.line((position, 0, position, height), fill=PAPER, width=line)
    for position in _centred(height, cell):
        draw.line((0, position, width, position), fill=PAPER, width=line)


def _centred(length: int, cell: float) -> list[float]:
    """Positions of grid lines one cell apart, symmetric about the middle of the picture."""
    count = math.floor(length / 2 / cell)
    return [length / 2 + index * cell for index in range(-count, count + 1)]


def _corner_circles(draw: ImageDraw.ImageDraw, size: tuple[int, int], hue: float) -> None:
    width, height = size
    radius = min(size) * 0.105
    inset = min(size) * 0.125
    line = max(1, round(min(size) / 90))
    for index, (x, y) in enumerate(
        ((inset, inset), (width - inset, inset), (inset, height - inset), (width - inset, height - inset))
    ):
        draw.ellipse(_around(x, y, radius), fill=_colour(hue + 0.5 + index * 0.08, 0.7, 0.9), outline=PAPER, width=line)
        draw.ellipse(_around(x, y, radius * 0.45), fill=INK)


def _disc(card: Image.Image, hue: float, random: np.random.Generator, label: str, seed_line: str) -> None:
    """The big circle: colour bars, the label, grey steps, a tuning fan and a star of the seed's colour."""
    size = min(card.size)
    x, y, radius = card.width / 2, card.height / 2, size * 0.44
    left, top, span = x - radius, y - radius, 2 * radius

    face = Image.new("RGB", card.size, INK)
    draw = ImageDraw.Draw(face)
    _fan(draw, (left, top, left + span, top + span * 0.24), hue, round(random.integers(9, 20)))
    _stripes(draw, (left, top + span * 0.24, left + span, top + span * 0.50), COLOUR_BARS)
    greys = [(round(255 * i / (GREY_STEPS - 1)),) * 3 for i in range(GREY_STEPS)]
    _stripes(draw, (left, top + span * 0.70, left + span, top + span * 0.80), greys)
    _star(draw, (x, top + span * 0.895), span * 0.075, round(random.integers(5, 10)), _colour(hue, 0.65, 0.95))
    _text(draw, (x, top + span * 0.565), label, span * 0.86, span * 0.105)
    _text(draw, (x, top + span * 0.655), seed_line, span * 0.70, span * 0.05)

    mask = Image.new("L", card.size, 0)
    ImageDraw.Draw(mask).ellipse(_around(x, y, radius), fill=255)
    card.paste(face, mask=mask)
    ImageDraw.Draw(card).ellipse(_around(x, y, radius), outline=PAPER, width=max(1, round(size / 110)))


def _fan(draw: ImageDraw.ImageDraw, box: Box, hue: float, rays: int) -> None:
    """Rays of rising hue from the middle of the box's lower edge."""
    left, top, right, bottom = box
    middle, reach = (left + right) / 2, right - left
    for ray in range(rays):
        start, end = (math.pi * (1 + (ray + side) / rays) for side in (0.0, 1.0))
        corners = [(middle, bottom)]
        corners += [(middle + reach * math.cos(a), bottom + reach * math.sin(a)) for a in (start, end)]
        draw.polygon(corners, fill=_colour(hue + ray / rays, 0.55, 0.95 if ray % 2 else 0.6))
    draw.rectangle((left, bottom, right, bottom + (bottom - top)), fill=INK)


def _stripes(draw: ImageDraw.ImageDraw, box: Box, colours: list[Colour] | tuple[Colour, ...]) -> None:
    left, top, right, bottom = box
    step = (right - left) / len(colours)
    for index, colour in enumerate(colours):
        draw.rectangle((left + index * step, top, left + (index + 1) * step, bottom), fill=colour)


def _star(draw: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, points: int, colour: Colour) -> None:
    corners = []
    for index in range(2 * points):
        reach = radius if index % 2 == 0 else radius * 0.5
        angle = math.pi * index / points - math.pi / 2
        corners.append((centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)))
    draw.polygon(corners, fill=colour)


def _text(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], text: str, max_width: float, max_height: float
) -> None:
    """Write the text about the centre, as large as fits in the width and height."""
    if not text:
        return
    size = max_height
    width = draw.textlength(text, font=ImageFont.load_default(size))
    if width > max_width:
        size *= max_width / width
    draw.text(centre, text, fill=PAPER, font=ImageFont.load_default(max(size, 1.0)), anchor="mm")


def _around(x: float, y: float, radius: float) -> Box:
    return (x - radius, y - radius, x + radius, y + radius)


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
