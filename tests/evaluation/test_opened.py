"""A run that is opened has the data that its config names, or one sentence on why not."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.evaluation.opened import OpenedRun
from src.utils.errors import UserError


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"_target_": "os.system"}, "is refused"),
        ({"_target_": None}, "is refused"),
        ({"nothing": 3}, "config.yaml describes cannot be built: .*nothing"),
        ({"split_seed": "one"}, "config.yaml describes cannot be built"),
        (None, "describes no data"),
    ],
)
def test_data_that_cannot_be_are_one_sentence(
    tiny_vae: Any, compose_config: Any, changes: dict[str, Any] | None, told: str
) -> None:
    data: Any = OmegaConf.to_container(compose_config().data, resolve=True)
    data = {} if changes is None else data | changes
    run = OpenedRun(Path("run"), tiny_vae(), Path("weights"), {"data": data})
    with pytest.raises(UserError, match=told):
        run.held_out(2)


def test_data_of_another_shape_than_the_models_are_refused(
    tiny_vae: Any, compose_config: Any
) -> None:
    data: Any = OmegaConf.to_container(compose_config().data, resolve=True)
    run = OpenedRun(Path("run"), tiny_vae("data.shape=[1,16,16]"), Path("weights"), {"data": data})
    with pytest.raises(
        UserError, match=r"of the shape \[1, 8, 8\], and its model takes \[1, 16, 16\]"
    ):
        run.held_out(2)


def test_no_games_are_played_to_look_at_a_run(
    tiny_vae: Any, compose_config: Any, tmp_path: Path
) -> None:
    cfg = compose_config("data=atari", "data.episodes=3")
    data = OmegaConf.to_container(cfg.data, resolve=True) | {"root": str(tmp_path / "games")}
    run = OpenedRun(Path("run"), tiny_vae(), Path("weights"), {"data": data})
    with pytest.raises(UserError, match="3 of the 3 episodes of .* are not in .*games"):
        run.held_out(2)
    assert not (tmp_path / "games").exists()
