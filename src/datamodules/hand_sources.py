"""Where files of hand poses lie, and which of their frames are for train, val and test."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.datamodules.hand_files import Convention, PoseFile
from src.datamodules.hand_plan import Part, Plan, Source, by_sequence
from src.recordings.files import shown
from src.utils.errors import UserError, nearest
from src.utils.pictures import SPLITS

log = logging.getLogger(__name__)

NEAR = 5  # so few frames apart, two of one data set show nearly the same hands
INFO = ("dataset_creation_info", "test_dataset_info")


def of_files(path: str | None, convention: Convention, split: Sequence[float], seed: int) -> Plan:
    """Split the sequences of an NPZ, or of all in or below a folder, but for those in which no finger moves.

    A data set is a file in the folder, or one of its folders. AMASS has a file for every sequence, and beside them
    files without poses, which are passed over.
    """
    root = _given(path, "path", "a folder of NPZ files, or one of them")
    found = [root] if root.is_file() else sorted(root.rglob("*.npz"))
    files = [file for file in found if not _has_no_poses(file, convention)]
    if not files:
        raise UserError(f"data.path={root} holds no NPZ files of poses")
    sources = []
    for file in shown(files, len(files), "looking for hands that move"):
        poses = PoseFile(file, convention)
        sequences = poses.sequences()
        dataset = file.stem if file == root else Path(file.relative_to(root).parts[0]).stem
        sources.append(Source(dataset, poses, sequences, poses.still(sequences).tolist()))
    _tell_still(root, sources)
    return by_sequence(sources, split, seed, str(root))


def _has_no_poses(file: Path, convention: Convention) -> bool:
    means = convention.hand_mean_path
    own = bool(means) and file.resolve() == Path(str(means)).resolve()
    return own or file.name == "shape.npz" or file.stem.endswith("_stagei")


def _tell_still(root: Path, sources: Sequence[Source]) -> None:
    total = sum(len(source.sequences) for source in sources)
    out = sum(int(np.isin(s.sequences, s.left_out).sum()) for s in sources)
    count = sum(len(source.left_out) for source in sources)
    if out == total:
        raise UserError(f"{root}: no finger moves in any of its {count} sequences")
    log.info(
        f"{root}: {total} frames in {len(sources)} files; {out} of them are left out, all of {count} sequences in "
        "which no finger moves"
    )


def of_splits(path: str | None, splits_dir: str | None, convention: Convention) -> Plan:
    """The frames that ``<split>_samples.json`` list, of ``<data set>.npz`` in ``path``, in their order."""
    root = _folder(path, "path", "the folder with <data set>.npz")
    folder = _folder(splits_dir, "splits_dir", "the folder with train_samples.json")
    samples = {split: _samples(folder / f"{split}_samples.json") for split in SPLITS}
    _check_info(folder / "dataset_metadata.json", samples)
    _warn_of_neighbours(folder, samples)
    plan: Plan = {split: [] for split in SPLITS}
    first = 0
    for dataset in dict.fromkeys(name for split in SPLITS for name in samples[split]):
        poses = _dataset(root, dataset, convention)
        sequences = first + poses.sequences()
        first = int(sequences.max()) + 1
        for split in SPLITS:
            rows = samples[split].get(dataset, np.empty(0, np.int64))
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(poses):
                raise UserError(
                    f"{folder / f'{split}_samples.json'} lists frames {rows.min()} to {rows.max()} of {dataset}, "
                    f"and {poses.path} has {len(poses)}"
                )
            plan[split].append(Part(dataset, poses, rows, sequences[rows]))
    return plan


def _dataset(root: Path, dataset: str, convention: Convention) -> PoseFile:
    file = root / f"{dataset}.npz"
    if Path(dataset).name != dataset or not file.is_file():
        there = [path.stem for path in root.glob("*.npz")]
        raise UserError(f"data.path={root} has no {dataset}.npz{nearest(dataset, there)}")
    return PoseFile(file, convention)


def _samples(path: Path) -> dict[str, np.ndarray]:
    content = _json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must be an object of data sets and lists of their frames")
    for dataset, frames in content.items():
        if not isinstance(frames, list) or any(type(frame) is not int for frame in frames):
            raise UserError(f"{path}: the frames of {dataset} must be a list of whole numbers")
    return {dataset: np.array(frames, np.int64) for dataset, frames in content.items()}


def _check_info(path: Path, samples: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Compare what a splits directory tells of itself, where it does, with what it lists."""
    if not path.exists():
        return
    content = _json(path)
    told = [content[key] for key in INFO if key in content] if isinstance(content, dict) else []
    if not told or not isinstance(told[0], dict):
        raise UserError(f"{path} has neither {' nor '.join(INFO)}")
    listed = sum(len(rows) for frames in samples.values() for rows in frames.values())
    if told[0].get("total_samples", listed) != listed:
        log.warning(f"{path} tells of {told[0]['total_samples']} frames, and {listed} are listed")


def _warn_of_neighbours(folder: Path, samples: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    train, test = samples["train"], samples["test"]
    near = sum(neighbours(train[name], rows) for name, rows in test.items() if name in train)
    if near:
        log.warning(
            f"{folder}: {near} of {sum(map(len, test.values()))} test frames have a training frame of their data set "
            f"within {NEAR} frames, which shows nearly the same hands, so that tests look better than they are; "
            "data.source=files splits by sequence"
        )


def neighbours(train: np.ndarray, test: np.ndarray, reach: int = NEAR) -> int:
    """How many of the frames ``test`` have one of ``train`` at most ``reach`` frames away."""
    train = np.sort(train)
    ends = np.searchsorted(train, test + reach, "right")
    return int((ends > np.searchsorted(train, test - reach)).sum())


def of_consolidated(path: str | None, convention: Convention) -> Plan:
    """``train.npz``, ``val.npz`` and ``test.npz`` of a folder, whole; a name is one sequence in all three.

    Sequences that are in several of them stay there, and the log says so.
    """
    root = _folder(path, "path", "the folder with train.npz, val.npz and test.npz")
    files = {split: PoseFile(root / f"{split}.npz", convention) for split in SPLITS}
    names = []
    for split, poses in files.items():
        own = poses.names()
        names.append(np.full(len(poses), f"all of {split}") if own is None else own)
    ids = np.unique(np.concatenate(names), return_inverse=True)[1].astype(np.int64)
    parts = np.split(ids, np.cumsum([len(poses) for poses in files.values()])[:-1])
    if shared := int(np.isin(parts[2], parts[0]).sum()):
        log.warning(
            f"{root}: {shared} of {len(parts[2])} test frames are of a sequence that training frames are of too, so "
            "that tests look better than they are; data.source=files splits by sequence"
        )
    return {
        split: [Part(split, poses, np.arange(len(poses)), sequences)]
        for (split, poses), sequences in zip(files.items(), parts, strict=True)
    }


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error


def _given(path: str | None, key: str, what: str) -> Path:
    if not path:
        raise UserError(f"data.{key} is missing; it must be {what}")
    if not Path(path).exists():
        raise UserError(f"data.{key}={path} does not exist; it must be {what}")
    return Path(path)


def _folder(path: str | None, key: str, what: str) -> Path:
    found = _given(path, key, what)
    if not found.is_dir():
        raise UserError(f"data.{key}={path} is no folder; it must be {what}")
    return found
