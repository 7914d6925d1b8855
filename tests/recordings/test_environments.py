"""Environments: the dot's anchors, a Breakout that can be played, and what names mean."""

import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from src.recordings.environments import Game, identify, register_environments
from src.recordings.environments.mini_breakout import BALL, PADDLE
from src.recordings.environments.toroidal_dot import ToroidalDot
from src.utils.errors import UserError


@pytest.fixture(autouse=True)
def registered() -> None:
    register_environments()


@pytest.mark.parametrize("name", ["ToroidalDot-v0", "MiniBreakout-v0"])
def test_gymnasium_finds_nothing_to_complain_of(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, render_mode="rgb_array")
        check_env(env.unwrapped)


def lit(frame: np.ndarray) -> set[tuple[int, int]]:
    """(column, row) of all white pixels; all others are black."""
    assert set(np.unique(frame)) <= {0, 255}
    assert (frame == frame[:, :, :1]).all()
    rows, columns = np.nonzero(frame[:, :, 0])
    return {(int(column), int(row)) for column, row in zip(columns, rows, strict=True)}


@pytest.mark.parametrize(("radius", "pixels"), [(5, 81), (2, 13)])
def test_a_dot_has_as_many_pixels_as_the_references(radius: int, pixels: int) -> None:
    frame, _ = ToroidalDot(radius=radius).reset(seed=0)
    assert frame.shape == (224, 224, 3)
    assert len(lit(frame)) == pixels


def test_seed_0_puts_the_dot_where_the_reference_has_it() -> None:
    env = ToroidalDot()
    frame, info = env.reset(seed=0)
    assert info == {"x": 172, "y": 47}
    assert (172, 47) in lit(frame)
    assert (167, 47) in lit(frame) and (166, 47) not in lit(frame)


def test_without_a_seed_the_generator_goes_on() -> None:
    env = ToroidalDot()
    env.reset(seed=0)
    random = np.random.RandomState(0)
    expected = [int(random.randint(0, 224)) for _ in range(4)][2:]
    assert [*env.reset()[1].values()] == expected
    assert env.reset(seed=0)[1] == {"x": 172, "y": 47}


def test_a_dot_goes_round() -> None:
    env = ToroidalDot(x=220, y=9)
    start, _ = env.reset(seed=3)
    assert env.step(0)[4] == {"x": 220, "y": 9}
    assert env.step(1)[4] == {"x": 23, "y": 9}
    for _ in range(223):
        frame, reward, terminated, truncated, _ = env.step(1)
        assert (reward, terminated, truncated) == (0.0, False, False)
    assert (frame == start).all()


def test_a_dot_at_the_corner_is_drawn_in_all_four() -> None:
    pixels = lit(ToroidalDot(x=2, y=222).reset(seed=0)[0])
    assert {(223, 222), (2, 1)} <= pixels
    assert len(pixels) == 81


def centre(frame: np.ndarray, colour: np.ndarray) -> float | None:
    """The column of the pixels of a colour."""
    columns = np.nonzero((frame == colour).all(axis=2))[1]
    return float(columns.mean()) if len(columns) else None


def follow(frame: np.ndarray) -> int:
    """Move the paddle below the ball, as somebody would who sees nothing but the picture."""
    ball, paddle = centre(frame, BALL), centre(frame, PADDLE)
    if ball is None or paddle is None or abs(ball - paddle) < 2:
        return 0
    return 1 if ball > paddle else 2


def played(seed: int, is_following: bool, steps: int = 600) -> tuple[float, int]:
    """The reward of an episode, and how many bricks its last picture has lost."""
    env = gymnasium.make("MiniBreakout-v0")
    random = np.random.default_rng(seed)
    frame, _ = env.reset(seed=seed)
    first, total = np.count_nonzero(frame[8:24]), 0.0
    for _ in range(steps):
        action = follow(frame) if is_following else int(random.integers(3))
        frame, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        assert info["bricks"] == 32 - total
        if terminated or truncated:
            assert info["lives"] == 0 or info["bricks"] == 0
            break
    return total, first - np.count_nonzero(frame[8:24])


def test_who_follows_the_ball_hits_far_more_than_who_plays_at_random() -> None:
    good = [played(seed, is_following=True)[0] for seed in range(5)]
    bad = [played(seed, is_following=False)[0] for seed in range(5)]
    assert min(good) > max(bad) + 5
    assert np.mean(good) > 5 * np.mean(bad)


def test_a_brick_that_was_hit_is_gone_from_the_picture() -> None:
    reward, lost = played(1, is_following=True)
    brick = 4 * 8 * 3
    assert abs(lost - brick * reward) <= 3 * 4  # the ball may be among them


def test_the_seed_decides_mini_breakout() -> None:
    env = gymnasium.make("MiniBreakout-v0", size=32)

    def frames(seed: int) -> np.ndarray:
        env.reset(seed=seed)
        return np.stack([env.step(1)[0] for _ in range(40)])

    assert frames(1).shape == (40, 32, 32, 3)
    assert (frames(1) == frames(1)).all()
    assert (frames(1) != frames(2)).any()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ALE/Breakout-v5", Game("ALE/Breakout-v5", "atari_breakout", "breakout")),
        ("Breakout-v5", Game("ALE/Breakout-v5", "atari_breakout", "breakout")),
        ("breakout", Game("ALE/Breakout-v5", "atari_breakout", "breakout")),
        (
            "SpaceInvaders",
            Game("ALE/SpaceInvaders-v5", "atari_space_invaders", "space_invaders"),
        ),
        (
            "space_invaders",
            Game("ALE/SpaceInvaders-v5", "atari_space_invaders", "space_invaders"),
        ),
        ("BreakoutNoFrameskip-v4", Game("BreakoutNoFrameskip-v4", "breakout_no_frameskip")),
        ("ToroidalDot-v0", Game("ToroidalDot-v0", "toroidal_dot")),
        ("toroidal_dot", Game("ToroidalDot-v0", "toroidal_dot")),
        ("MiniBreakout-v0", Game("MiniBreakout-v0", "mini_breakout")),
    ],
)
def test_names(name: str, found: Game) -> None:
    assert identify(name) == found


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ALE/Brekout-v5", "'ALE/Breakout-v5'"),
        ("space_invadors", "'space_invaders'"),
        ("TorodialDot-v0", "'ToroidalDot-v0'"),
        ("zzzzzzzzzz", "ToroidalDot-v0"),
        ("no_such_module:Game-v0", "no_such_module"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=nearest):
        identify(name)


def test_every_game_of_ale_py_has_an_id_that_gymnasium_knows() -> None:
    from src.recordings.environments import atari

    assert len(atari.games()) > 100
    assert [rom for rom in atari.games() if atari.ale_id(rom) not in gymnasium.registry] == []
    assert [rom for rom in atari.games() if atari.find(atari.ale_id(rom)) != rom] == []


@pytest.mark.parametrize("package", ["gymnasium", "ale_py"])
def test_a_missing_package_is_named_with_its_extra(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"latent-lab\[atari\]"):
        identify("breakout")
