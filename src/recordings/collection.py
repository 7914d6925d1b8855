"""What makes recorded episodes belong together, and finding those that there are."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.recordings.listing import find_recordings
from src.recordings.recording import meta_of


def missing_episodes(root: Path, collection: Mapping[str, Any], episodes: int) -> list[int]:
    """The numbers below ``episodes`` of which no whole episode of this very collection lies below ``root``."""
    there = _found(root, collection)
    return [number for number in range(episodes) if number not in there]


def collected(root: Path, collection: Mapping[str, Any], episodes: int) -> list[Path]:
    """The recordings of this very collection, in the order of their episodes; those that are missing are left out."""
    there = _found(root, collection)
    return [there[number] for number in range(episodes) if number in there]


def key(collection: Mapping[str, Any]) -> str:
    """Some letters that stand for a collection."""
    text = json.dumps(collection, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_meta(recording: Path) -> dict[str, Any]:
    """The metadata of a recording; empty where there is none that can be read."""
    return meta_of(recording)[0]


def _found(root: Path, collection: Mapping[str, Any]) -> dict[int, Path]:
    """Whole episodes by their number; of two recordings of the same one, the first."""
    wanted = json.loads(json.dumps(collection))
    found: dict[int, Path] = {}
    for path in find_recordings(root / collection["robot"]):
        meta = read_meta(path)
        # An episode that was interrupted has no end, and one whose process was killed not even a length.
        whole = meta.get("episode_end") is not None and "total_steps" in meta
        if whole and meta.get("collection") == wanted:
            found.setdefault(meta["episode_index"], path)
    return found
