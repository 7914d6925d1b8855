"""LeRobot datasets become recordings, one for each episode, or one for all."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from src.recordings.files import explained
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
from src.recordings.meter import Meter
from src.recordings.writer import RecordingWriter
from src.utils.errors import UserError, nearest
from src.utils.pictures import pair

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
        size=None if size is None else pair(size, "size"),
        image_format=image_format,
        combine=combine,
    )
    chosen = _episodes(dataset, episodes)
    groups = [chosen] if combine else [[episode] for episode in chosen]
    folder = robot_folder(Path(root), dataset.robot_type)
    with alone(folder), Meter(f"converting {options.dataset}", len(chosen)) as meter:
        conversion = _Conversion(dataset, planner, options, folder, converted(folder), meter)
        return [conversion.recording(group) for group in groups]


@dataclass(frozen=True)
class _Conversion:
    """Episodes of a dataset on their way into a folder."""

    dataset: LeRobotDataset
    planner: Planner
    options: _Options
    folder: Path
    there: Mapping[str, Path]
    meter: Meter

    def recording(self, group: Sequence[int]) -> Path:
        """The recording of the episodes in ``group``, found or made."""
        plans = {episode: self.planner.plan(episode) for episode in group}
        meta = self._meta(plans)
        if (found := self.there.get(identity(meta))) is not None:
            numbers = ", ".join(map(str, group))
            print(f"episode {numbers} is there already: {found}", file=sys.stderr)
            self.meter(0, len(group))
            return found
        name = unused(self.folder, f"ep{group[0]:04d}" if len(group) == 1 else "all")
        unfinished = self.folder / UNFINISHED / name
        try:
            self._write(unfinished, plans, meta)
            with explained(self.folder):
                os.rename(unfinished, self.folder / name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return self.folder / name

    def _write(self, path: Path, plans: Mapping[int, Plan], meta: Mapping[str, Any]) -> None:
        with RecordingWriter(
            path,
            robot_type=self.dataset.robot_type or UNKNOWN_ROBOT,
            action_space=_action_space(plans.values()),
            image_format=self.options.image_format,
            meta=meta,
        ) as writer:
            start, last = 0.0, [*plans][-1]
            for episode, plan in plans.items():
                self._write_episode(writer, episode, plan, start, episode == last)
                start += float(plan.times[-1]) + plan.step
                if episode != last and plan.stay is not None:
                    writer.act(plan.stay, timestamp=start - plan.step / 2)
                self.meter(0, 1)

    def _write_episode(
        self, writer: RecordingWriter, episode: int, plan: Plan, start: float, is_last: bool
    ) -> None:
        numbers = plan.frames.tolist()
        views = [self.dataset.frames(episode, key, numbers) for key in self.options.cameras]
        with ExitStack() as opened:
            for view in views:
                opened.callback(view.close)
            for number, pictures in enumerate(zip(*views, strict=True)):
                time = start + float(plan.times[number])
                told = _told(plan, number, is_last)
                writer.observe(_stacked(pictures, self.options), timestamp=time, **told)
                if number < len(plan.actions):
                    writer.act(plan.actions[number], timestamp=time + plan.step / 2)
                self.meter(1, 0)

    def _meta(self, plans: Mapping[int, Plan]) -> dict[str, Any]:
        """What session_meta.json holds beside the writer's own keys."""
        dataset, options = self.dataset, self.options
        first, is_done = next(iter(plans)), [*plans.values()][-1].is_done
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
            "source_fingerprint": fingerprint(one.fingerprint.encode() for one in plans.values()),
        }
        if options.combine:
            meta |= {"combined_episodes": list(plans), "num_episodes": len(plans)}
        return meta | plans[first].facts


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


def _action_space(plans: Iterable[Plan]) -> list[dict[str, Any]] | None:
    """The actions of all plans, each once, in their order."""
    spaces = [plan.action_space for plan in plans if plan.action_space is not None]
    actions = [action for space in spaces for action in space]
    return [one for number, one in enumerate(actions) if one not in actions[:number]] or None


def _episodes(dataset: LeRobotDataset, episodes: Sequence[int] | None) -> list[int]:
    chosen = list(dict.fromkeys(dataset.episodes if episodes is None else episodes))
    if not all(isinstance(episode, int) for episode in chosen):
        raise UserError(f"episodes={episodes} must be a number, or numbers such as [0,3]")
    for episode in chosen:
        dataset.episode(episode)
    if not chosen:
        raise UserError(f"there is no episode to convert in {dataset.path}")
    return chosen


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
