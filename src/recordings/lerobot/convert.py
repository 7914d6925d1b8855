"""LeRobot datasets become recordings, one for each episode, or one for all."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from src.recordings.images import ImageFormat
from src.recordings.lerobot.dataset import LeRobotDataset, open_dataset
from src.recordings.lerobot.places import (
    UNFINISHED,
    UNKNOWN_ROBOT,
    alone,
    converted,
    identity,
    robot_folder,
    unused,
)
from src.recordings.lerobot.plan import ActionSource, Plan, Planner, fingerprint
from src.recordings.lerobot.progress import ConversionProgress
from src.recordings.writer import RecordingWriter
from src.utils.errors import UserError, nearest

Stack = Literal["vertical", "horizontal", "single"]


@dataclass(frozen=True)
class _Options:
    """What else than the episode decides what is in a recording."""

    source: str
    dataset: str
    joint: str | None
    actions: str
    still: float
    cameras: tuple[str, ...]
    stack: str
    size: tuple[int, int] | None
    image_format: ImageFormat
    combine: bool


def convert(
    path: str | Path,
    root: str | Path,
    episodes: Sequence[int] | None = None,
    joint: str | None = None,
    cameras: Sequence[str] | None = None,
    stack: Stack = "vertical",
    size: int | Sequence[int] | None = 224,
    image_format: ImageFormat = "png",
    actions: ActionSource = "auto",
    still: float = 0.05,
    combine: bool = False,
) -> list[Path]:
    """Convert episodes of the dataset at ``path`` to recordings below ``root``.

    An episode that is there already, converted with the same options, is not converted again. A recording appears when
    it is whole: a conversion that is killed leaves those that it had finished.

    Args:
        path: the dataset's folder, the one with ``meta/``.
        root: the folder of all recordings; they lie in ``<root>/<robot>/session_…``.
        episodes: their numbers; ``None``: all.
        joint: whose motion is the action (``shoulder_pan``); ``None``: the log's, else the first.
        cameras: keys, or their last parts (``front``), in the order of the stack; ``None``: all.
        stack: ``vertical``, ``horizontal``, or ``single``, the first camera alone.
        size: of each camera's picture, one number or (height, width); ``None``: as they are.
        image_format: png and webp keep every bit.
        actions: ``auto``, ``log``, ``column``, ``velocity`` or ``none``; see ``Planner``.
        still: a joint slower than this stays, in the dataset's units per second.
        combine: one recording of all episodes, with a stay and a cut between two of them.

    Returns:
        The recordings of these episodes, in their order, new or not.

    Raises:
        UserError: a bad option, a dataset that cannot be read, or no room or right to write.
    """
    dataset = open_dataset(path)
    planner = Planner(dataset, actions, joint, still)
    options = _Options(
        source=f"lerobot_v{dataset.info.major}",
        dataset=dataset.path.resolve().name,
        joint=joint,
        actions=actions,
        still=still,
        cameras=_cameras(dataset, cameras, stack),
        stack=stack,
        size=_size(size),
        image_format=image_format,
        combine=combine,
    )
    chosen = list(dict.fromkeys(dataset.episodes if episodes is None else map(int, episodes)))
    if not chosen:
        raise UserError(f"there is no episode to convert in {dataset.path}")
    groups = [chosen] if combine else [[episode] for episode in chosen]
    folder = robot_folder(Path(root), dataset.robot_type)
    with alone(folder), ConversionProgress(dataset, chosen) as progress:
        there = converted(folder)
        return [_one(dataset, planner, options, group, folder, there, progress) for group in groups]


def _one(
    dataset: LeRobotDataset,
    planner: Planner,
    options: _Options,
    group: list[int],
    folder: Path,
    there: Mapping[str, Path],
    progress: ConversionProgress,
) -> Path:
    """The recording of the episodes in ``group``, found or made."""
    plans = {episode: planner.plan(episode) for episode in group}
    for plan in plans.values():
        _tell_joint(plan, options, progress)
    meta = _meta(dataset, options, plans)
    found = there.get(identity(meta))
    if found is not None:
        progress.skip(group, found)
        return found
    name = unused(folder, group[0], len(group) > 1)
    unfinished = folder / UNFINISHED / name
    try:
        _write(unfinished, dataset, options, plans, meta, progress)
        os.rename(unfinished, folder / name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder / name


def _tell_joint(plan: Plan, options: _Options, progress: ConversionProgress) -> None:
    """A joint that nobody named is told."""
    name = plan.facts["joint_name"]
    if options.joint is None and name is not None and plan.facts["action_source"] == "velocity":
        progress.say(f"actions are those of the first joint, {name}; joint=… takes another")


def _write(
    path: Path,
    dataset: LeRobotDataset,
    options: _Options,
    plans: Mapping[int, Plan],
    meta: Mapping[str, Any],
    progress: ConversionProgress,
) -> None:
    with RecordingWriter(
        path,
        robot_type=dataset.robot_type or UNKNOWN_ROBOT,
        action_space=_action_space(plans.values()),
        image_format=options.image_format,
        meta=meta,
    ) as writer:
        start = 0.0
        for number, (episode, plan) in enumerate(plans.items()):
            is_last = number == len(plans) - 1
            _write_episode(writer, dataset, options, episode, plan, start, is_last, progress)
            start += float(plan.times[-1]) + plan.step
            if not is_last and plan.stay is not None:
                writer.act(plan.stay, timestamp=start - plan.step / 2)


def _write_episode(
    writer: RecordingWriter,
    dataset: LeRobotDataset,
    options: _Options,
    episode: int,
    plan: Plan,
    start: float,
    is_last: bool,
    progress: ConversionProgress,
) -> None:
    views = [dataset.frames(episode, key, plan.frames.tolist()) for key in options.cameras]
    with ExitStack() as opened:
        for view in views:
            opened.callback(view.close)  # type: ignore[attr-defined]
        for number, pictures in enumerate(zip(*views, strict=True)):
            told = _told(plan, number, is_last)
            writer.observe(
                _stacked(pictures, options), timestamp=start + float(plan.times[number]), **told
            )
            if number < len(plan.actions):
                writer.act(plan.actions[number], timestamp=start + float(plan.action_times[number]))
            progress.at(episode, int(plan.frames[number]))
    progress.end(episode)


def _told(plan: Plan, number: int, is_last: bool) -> dict[str, Any]:
    """What is told beside an observation: its reward, and at the end whether and how it ended."""
    told: dict[str, Any] = {}
    if not np.isnan(plan.rewards[number]):
        told["reward"] = float(plan.rewards[number])
    if number == len(plan.frames) - 1:
        if plan.is_done:
            told["terminated"] = True
        elif not is_last:  # a cut: nothing that follows in this recording followed there
            told["truncated"] = True
    return told


def _meta(dataset: LeRobotDataset, options: _Options, plans: Mapping[int, Plan]) -> dict[str, Any]:
    """What session_meta.json holds beside the writer's own keys."""
    first = next(iter(plans))
    is_done = list(plans.values())[-1].is_done
    meta = {
        "source": options.source,
        "source_path": str(dataset.path),
        "codebase_version": dataset.version,
        "fps": dataset.fps,
        "episode_index": first,
        "tasks": sorted({task for one in plans for task in dataset.episode(one).tasks}),
        "seed": None,
        "episode_end": "terminated" if is_done else None,
        "cameras": list(options.cameras),
        "stack_mode": options.stack,
        "collection": asdict(options),
        "source_fingerprint": fingerprint(plan.fingerprint.encode() for plan in plans.values()),
    }
    if options.combine:
        meta |= {"combined_episodes": list(plans), "num_episodes": len(plans)}
    return meta | plans[first].facts


def _action_space(plans: Iterable[Plan]) -> list[dict[str, Any]] | None:
    """The actions of all plans, each once, in their order."""
    spaces = [plan.action_space for plan in plans if plan.action_space is not None]
    actions = [action for space in spaces for action in space]
    return [one for number, one in enumerate(actions) if one not in actions[:number]] or None


def _cameras(dataset: LeRobotDataset, cameras: Sequence[str] | None, stack: str) -> tuple[str, ...]:
    if stack not in get_args(Stack):
        raise UserError(f"stack='{stack}' is unknown{nearest(stack, get_args(Stack))}")
    if not dataset.cameras:
        raise UserError(f"{dataset.path} has no camera: no feature of dtype video or image")
    named = [cameras] if isinstance(cameras, str) else cameras
    chosen = dataset.cameras if named is None else tuple(map(dataset.camera, named))
    if not chosen:
        raise UserError(f"cameras=[] leaves nothing to see; choices: {', '.join(dataset.cameras)}")
    return chosen[:1] if stack == "single" else chosen


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = (size, size) if isinstance(size, int) else map(int, size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise UserError(f"size={size} is no size of a picture; give one number, two, or null")
    return height, width


def _stacked(pictures: Sequence[np.ndarray], options: _Options) -> np.ndarray:
    """The cameras' pictures at one time as one, (H, W, 3) uint8."""
    resized = [_resized(picture, options.size) for picture in pictures]
    axis = 1 if options.stack == "horizontal" else 0
    if len({picture.shape[1 - axis] for picture in resized}) > 1:
        sizes = ", ".join(f"{p.shape[0]}x{p.shape[1]}" for p in resized)
        raise UserError(f"pictures of {sizes} cannot be stacked {options.stack}ly; give size=…")
    return np.ascontiguousarray(np.concatenate(resized, axis=axis))


def _resized(picture: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    if size is None or picture.shape[:2] == size:
        return picture
    from PIL import Image

    image = Image.fromarray(picture)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
