"""What scripts/record.py does: record an environment, or convert what somebody else has recorded."""

import sys
import time
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from src.recordings.collect import plan_of
from src.recordings.collection import read_meta
from src.utils.build import build
from src.utils.errors import UserError, nearest

SOURCES = ("lerobot",)
AUTO = "auto"


def record(cfg: Any) -> None:
    """Record or convert, and say where it lies.

    Raises:
        UserError: it is not said what, or it cannot be done.
    """
    source = cfg["from"]
    if source is not None:
        _convert(cfg, source)
    elif cfg.env is None:
        raise UserError(
            "say what to record: env=ALE/Breakout-v5, or from=lerobot path=<a LeRobot dataset>"
        )
    else:
        _play(cfg)


def _play(cfg: Any) -> None:
    if cfg.policy is None:
        raise UserError(
            "policy=none plays nothing; choices: random, dwell, cyclic, constant, replay"
        )
    episodes = 10 if cfg.episodes is None else cfg.episodes
    plan = plan_of(
        cfg.env,
        episodes,
        policy=build(cfg.policy),
        root=cfg.root,
        seed=cfg.seed,
        size=_size(cfg, None),
        max_steps=cfg.max_steps,
        env_args=_plain(cfg.env_args),
        image_format=cfg.image_format,
        num_envs=cfg.num_envs,
    )
    missing, began = set(plan.missing(episodes)), time.perf_counter()
    try:
        paths = plan.ensure(episodes)
    except KeyboardInterrupt:
        whole = episodes - len(plan.missing(episodes))
        print(
            f"interrupted: {whole} of {episodes} episodes are whole; the same command records the rest",
            file=sys.stderr,
        )
        sys.exit(130)
    _tell(paths, missing, time.perf_counter() - began)


def _tell(paths: list[Path], missing: set[int], seconds: float) -> None:
    """Where the episodes lie, how many frames they are, how fast they were recorded, and how they went."""
    told = [read_meta(path) for path in paths]
    steps = [meta["episode_steps"] for meta in told]
    new = sum(count + 1 for number, count in enumerate(steps) if number in missing)
    print(paths[0].parent)
    print(
        f"{len(paths)} episodes, {sum(steps) + len(paths)} frames; "
        f"{len(missing)} episodes recorded now" + (f", {new / seconds:.0f} frames/s" if new else "")
    )
    returns = [meta["episode_return"] for meta in told]
    print(f"reward of an episode: {fmean(returns):.2f} ± {pstdev(returns):.2f} (n = {len(paths)})")


def _convert(cfg: Any, source: str) -> None:
    if source not in SOURCES:
        raise UserError(f"from={source} is not read{nearest(source, SOURCES)}")
    if cfg.path is None:
        raise UserError(f"from={source} needs path=<the dataset's folder, the one with meta/>")
    from src.recordings.lerobot.convert import convert

    chosen = range(cfg.episodes) if isinstance(cfg.episodes, int) else _plain(cfg.episodes)
    paths = convert(
        Path(cfg.path),
        Path(cfg.root),
        episodes=chosen,
        joint=cfg.joint,
        cameras=_plain(cfg.cameras),
        stack=cfg.stack,
        size=_size(cfg, 224),
        image_format=cfg.image_format,
        actions=cfg.actions,
        still=cfg.still,
        combine=cfg.combine,
    )
    for path in dict.fromkeys(paths):
        print(path)


def _size(cfg: Any, auto: int | None) -> Any:
    return auto if cfg.size == AUTO else _plain(cfg.size)


def _plain(value: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
