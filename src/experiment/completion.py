"""Test poses of a run with gaps or noise, completed by its model and by simpler priors."""

import json
from math import hypot
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from src.evaluation.completion import (
    baselines,
    complete,
    hidden_joints,
    residual,
    with_noise,
)
from src.evaluation.completion_figures import completions
from src.evaluation.pose_samples import spread
from src.evaluation.poses import joint_errors
from src.runs.loading import load_model, read_plain_config
from src.runs.reading import read_run
from src.runs.record import CONFIG_FILE, write_json
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

# Poses that are drawn, and training poses that the baselines see at most: all of the drawn ones.
SHOWN, TRAIN = 6, 100_000
# Radians: closer than this nothing is known.
LEAST_SIGMA = 1e-3
# Training poses that a model's own error is taken from.
RECONSTRUCTED = 2000


def complete_run(cfg: DictConfig) -> None:
    """Complete test poses, print a table of errors, and write ``completion.json`` and a figure into ``completion/``.

    Raises:
        UserError: there is no run, its data are no poses, or there is nothing to mend.
    """
    _check(cfg)
    run = read_run(cfg.run)
    train, truth = _poses(read_plain_config(run.path / CONFIG_FILE), cfg.poses)
    hidden = hidden_joints(cfg.hidden, len(truth), cfg.seed)
    given = with_noise(truth, cfg.noise, cfg.seed)
    model = load_model(run.path)
    noise = max(cfg.noise, LEAST_SIGMA)
    # A code cannot say more of a pose than the model's reconstructions do.
    left = residual(model, spread(train, RECONSTRUCTED))
    sigma = hypot(noise, left) if cfg.sigma is None else cfg.sigma
    with isolated_rng(cfg.seed):
        found = complete(model, given, ~hidden, sigma, cfg.weight, cfg.steps, cfg.restarts)
    poses = {model.name: found.poses} | baselines(train, given, ~hidden, noise)
    folder = run.path / "completion"
    folder.mkdir(exist_ok=True)
    case = cfg.hidden + (f"_noise{cfg.noise:g}" if cfg.noise else "")
    errors = {name: _errors(one, truth, hidden) for name, one in poses.items()}
    errors["as given"] = _errors(given, truth, hidden) | {"hidden": None}
    content = {"errors_deg": errors, "energy_mean": float(found.energies.mean()), "sigma": sigma}
    content |= {"poses": len(truth), "baseline_rows": len(train)}
    content |= {key: cfg[key] for key in ("weight", "steps", "restarts", "seed")}
    _add(folder / "completion.json", case, content)
    few = slice(SHOWN)
    drawn = {name: one[few] for name, one in poses.items()}
    figure = completions(truth[few], given[few], hidden[few], drawn, f"{case}: {run.path.name}")
    figure.savefig(folder / f"{case}.png", dpi=110)
    _print(errors, f"{len(truth)} test poses, hidden={cfg.hidden} noise={cfg.noise:g}")
    print(folder)


def _check(cfg: DictConfig) -> None:
    if cfg.poses < 1 or not cfg.noise >= 0:
        raise UserError(f"poses={cfg.poses} must be at least 1 and noise={cfg.noise} not negative")
    if cfg.hidden == "none" and not cfg.noise:
        raise UserError(
            "hidden=none and noise=0 leave nothing to mend; choose hidden=thumb or noise=0.1"
        )


def _poses(config: dict[str, Any], count: int) -> tuple[Tensor, Tensor]:
    """Training and test poses of a run's data."""
    if config.get("data", {}).get("value_range") != "rotation":
        raise UserError("only runs on hand poses have something to complete: data=hand_poses")
    data = build(config["data"], allowed=("src.datamodules.",))
    data.setup()
    return tuple(
        data.rows(split, data.spread(split, rows))
        for split, rows in (("train", TRAIN), ("test", count))
    )  # type: ignore[return-value]


def _errors(poses: Tensor, truth: Tensor, hidden: Tensor) -> dict[str, float | None]:
    """Mean angle in degrees over hidden and over known joints; None where there are none of them."""
    angles = joint_errors(poses, truth)
    both = {"hidden": hidden, "known": ~hidden}
    return {name: float(angles[m].mean()) if m.any() else None for name, m in both.items()}


def _add(path: Path, case: str, content: dict[str, Any]) -> None:
    """Keep a case beside those that are there."""
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = {}
    except ValueError as error:
        raise UserError(f"{path} is damaged, and is not replaced: {error}") from error
    write_json(path, known | {case: content})


def _print(errors: dict[str, dict[str, float | None]], title: str) -> None:
    table = Table("MPJRE (degrees)", title=title)
    for name in ("hidden", "known"):
        table.add_column(f"{name} joints", justify="right")
    for method, values in errors.items():
        table.add_row(method, *("" if v is None else f"{v:.2f}" for v in values.values()))
    Console().print(table)
