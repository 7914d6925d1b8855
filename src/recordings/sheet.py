"""A picture of a recording: frames with their steps and the actions taken after them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.recordings.files import explained
from src.recordings.recording import Recording
from src.utils.errors import UserError

WIDTH = 128  # pixels that a frame is given at least
COLUMNS = 8
TEXT, GAP = 14, 6  # pixels of a line, and between frames
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def contact_sheet(recording: Recording, out: Path, count: int = 24) -> None:
    """Draw ``count`` evenly spread frames into ``out``.

    Raises:
        UserError: there are no frames, one cannot be read, ``count`` is less than 1, or ``out`` cannot be written.
    """
    total = len(recording.observations)
    if not total or count < 1:
        raise UserError(f"{recording.path} has {total} frames, of which {count} cannot be shown")
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    sheet = _drawn(recording, [int(index) for index in chosen])
    with explained(out):
        sheet.save(out, "PNG")


def _drawn(recording: Recording, chosen: list[int]) -> Image.Image:
    height, width = recording.frame(chosen[0]).shape[:2]
    scale = max(1, math.ceil(WIDTH / width))
    font = ImageFont.load_default(size=11)
    captions = [_caption(recording, index, width * scale, font) for index in chosen]
    lines = max(len(caption) for caption in captions)
    cell = (width * scale + GAP, height * scale + lines * TEXT + GAP)
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    sheet = Image.new("RGB", (columns * cell[0] + GAP, rows * cell[1] + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (index, caption) in enumerate(zip(chosen, captions, strict=True)):
        x, y = GAP + place % columns * cell[0], GAP + place // columns * cell[1]
        picture = Image.fromarray(recording.frame(index, (height, width)))
        large = picture.resize((width * scale, height * scale), Image.Resampling.NEAREST)
        sheet.paste(large, (x, y))
        for number, line in enumerate(caption):
            where = (x, y + height * scale + number * TEXT)
            pen.text(where, line, FAINT if number else INK, font)
    return sheet


def _caption(recording: Recording, index: int, width: int, font: Any) -> list[str]:
    """The step, and the action in as many lines of ``width`` pixels as it takes."""
    lines = [""]
    for word in _action_after(recording, index).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_title(recording, index), *lines]


def _title(recording: Recording, index: int) -> str:
    step = f"step {recording.steps[recording.observations[index]]}"
    reward = recording.rewards[index]
    end = ", end" if recording.terminated[index] or recording.truncated[index] else ""
    told = f", reward {reward:g}" if reward == reward and reward else ""
    return step + told + end


def _action_after(recording: Recording, index: int) -> str:
    """The action that is the next event; nothing where the robot looks again first, or stops."""
    following = int(recording.observations[index]) + 1
    if following >= recording.num_events or not recording.is_action[following]:
        return ""
    code = int(recording.action_codes[recording.actions_before[index]])
    return action_name(recording, recording.action_set[code])


def action_name(recording: Recording, action: dict[str, Any]) -> str:
    """An action in words: by ``action_meanings`` of the metadata where there are any, else its keys and values."""
    meanings, number = recording.meta.get("action_meanings"), action.get("action")
    if isinstance(meanings, list) and isinstance(number, int) and 0 <= number < len(meanings):
        return str(meanings[number])
    return " ".join(f"{key}={_short(value)}" for key, value in action.items())


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
