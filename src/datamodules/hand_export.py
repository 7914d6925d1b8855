"""Writing hand poses: one file for each split, or one for each style."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from src.datamodules.base import ArrayDataModule
from src.datamodules.hand_plan import gather
from src.datamodules.hand_poses import HandPosesDataModule
from src.recordings.files import refusal, shown
from src.utils.errors import UserError, nearest
from src.utils.pictures import SPLITS

FORMS = ("consolidated", "files")


def write_poses(data: ArrayDataModule, folder: Path, form: str = "consolidated") -> list[str]:
    """Write what ``data`` would train on to a new folder, all of it or nothing.

    Args:
        data: a ``HandPosesDataModule``, not set up.
        folder: where to; it must not exist, or be empty.
        form: ``consolidated``: ``train.npz``, ``val.npz`` and ``test.npz`` with ``lhand_pose`` and ``rhand_pose``
            (N, 45) float32 radians and ``sequence_id`` (N,), and ``<split>_metadata.json``, which tells where every
            frame came from. ``files``: what is drawn as ``<style>.npz``, not split, with ``body_pose`` (N, 63) of
            zeros and ``image_ids`` too, as body models have them.

    Returns:
        A line on every NPZ file.

    Raises:
        UserError: the folder has something in it, an unknown form, or what reading raises.
    """
    if not isinstance(data, HandPosesDataModule):
        raise UserError(f"data={data.name} has no hand poses; choose data=hand_poses")
    if form not in FORMS:
        raise UserError(f"as={form} is unknown{nearest(form, FORMS)}")
    if form == "files" and data.source != "procedural":
        raise UserError(f"as=files writes what is drawn, and data.source={data.source} is read")
    if data.source == "files" and Path(data.path or "").resolve() in folder.resolve().parents:
        raise UserError(
            f"output_dir={folder} lies in data.path={data.path}, where it would be read again; choose another one"
        )
    with _new_folder(folder) as temporary:
        told = _write_styles(data, temporary) if form == "files" else _consolidate(data, temporary)
    return [f"{folder / name}: {frames} frames" for name, frames in told.items()]


def _consolidate(data: HandPosesDataModule, folder: Path) -> dict[str, int]:
    gathered = gather(data.plan())
    for split in shown(SPLITS, len(SPLITS), "writing poses"):
        x = gathered.x[split]
        if not len(x):
            raise UserError(f"{data.name}: the {split} split is empty")
        _save(folder / f"{split}.npz", x, {"sequence_id": gathered.sequences[split]})
        with open(folder / f"{split}_metadata.json", "w", encoding="utf-8") as file:
            file.writelines(_metadata(gathered.origins[split]))
    return {f"{split}.npz": len(gathered.x[split]) for split in SPLITS}


def _metadata(origins: list[tuple[str, np.ndarray]]) -> Iterator[str]:
    """A JSON list with a line for every frame; of millions no tree is built."""
    number, before = 0, "["
    for dataset, rows in origins:
        start = f'{{"dataset_name": {json.dumps(dataset)}, "original_idx": '
        for row in rows.tolist():
            yield f'{before}\n{start}{row}, "consolidated_idx": {number}}}'
            number, before = number + 1, ","
    yield "\n]\n"


def _write_styles(data: HandPosesDataModule, folder: Path) -> dict[str, int]:
    found = {}
    for style, x, ids in shown(data.drawn(), len(data.styles), "writing styles"):
        frame = np.arange(len(ids)) - np.searchsorted(ids, ids)  # of its sequence
        names = [
            f"{style}{i:06d}_{j:04d}" for i, j in zip(ids.tolist(), frame.tolist(), strict=True)
        ]
        body = np.zeros((len(x), 63), np.float32)
        more = {"body_pose": body, "image_ids": np.array(names), "sequence_id": ids}
        _save(folder / f"{style}.npz", x, more)
        found[f"{style}.npz"] = len(x)
    return found


def _save(path: Path, x: np.ndarray, more: Mapping[str, np.ndarray]) -> None:
    """x (N, 30, 3) as two hands, with the text that tells that they are absolute."""
    left, right = (x[:, hand].reshape(len(x), 45) for hand in (slice(15), slice(15, 30)))
    # The names of savez's other arguments are none of ours.
    arrays = {"lhand_pose": left, "rhand_pose": right, "hand_mean": np.array("absolute"), **more}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that becomes ``folder`` when the block ends, and is gone where it fails."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output_dir={folder} is there and not empty; choose another one")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, folder)
    except OSError as error:
        raise refusal(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
