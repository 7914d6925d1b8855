"""Search spaces, and what is refused of them and of storages."""

from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from optuna.distributions import FloatDistribution

from src.jobs.space import (
    check_directions,
    defaults_in,
    examples,
    overrides_of,
    parse_space,
    values_of,
)
from src.jobs.storage import check_no_password, masked
from src.utils.errors import UserError
from src.utils.main import CONF, register_resolvers


@pytest.fixture(scope="module")
def whole_config() -> Any:
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        return compose("config", overrides=["hparams_search=beta_vae"], return_hydra_config=True)


def test_what_is_said_last_holds() -> None:
    space, fixed, deletions = parse_space(
        [
            "a=interval(0,1)",
            "b=choice(1,2)",
            "c=3",
            "a=5",
            "c=range(1,4)",
            "~callbacks.figures",
            "+d=x,y",
        ]
    )
    assert space.keys() == {"b", "c", "+d"} and fixed == {"a": "5"}
    assert deletions == ["~callbacks.figures"]
    assert values_of(space["c"]) == [1, 2, 3]
    assert all({"b", "c", "+d"} == point.keys() for point in examples(space))
    assert {point["+d"] for point in examples(space)} == {"x", "y"}


def test_nothing_is_told_as_null() -> None:
    assert overrides_of({"a": None, "b": 1e-5, "c": "x"}) == ["a=null", "b=1e-05", "c=x"]


@pytest.mark.parametrize("argument", ["a=range(3,3)", "a=range(0,1,0)"])
def test_a_space_that_cannot_be_is_refused(argument: str) -> None:
    with pytest.raises(UserError, match="hydra.sweeper.params: "):
        parse_space([argument])


def test_a_grid_has_no_intervals() -> None:
    with pytest.raises(UserError, match=r"write choice\(…\)"):
        values_of(FloatDistribution(0.0, 1.0))


def test_the_config_s_own_values_are_found_if_they_lie_in_the_space(whole_config: Any) -> None:
    inside, _, _ = parse_space(
        [
            "model.objective.beta=interval(1,8)",
            "model.latent_dim=choice(8,16)",
            "model=vae,beta_vae",
        ]
    )
    assert defaults_in(inside, whole_config) == {
        "model.objective.beta": 4.0,
        "model.latent_dim": 16,
        "model": "beta_vae",
    }
    for outside in (
        "model.objective.beta=interval(5,8)",
        "model.latent_dim=choice(2,4)",
        "+new=choice(1,2)",
    ):
        assert defaults_in(parse_space([outside])[0], whole_config) is None


@pytest.mark.parametrize(
    ("directions", "metrics", "prunes", "sentence"),
    [
        (["maximise"], ["a"], False, "nearest: 'maximize'"),
        (["minimize"], [], False, "needs optimized_metric"),
        (["minimize"], ["a", "b"], False, "give one for every metric"),
        (["minimize", "maximize"], ["a", "b"], True, "hydra/sweeper/pruner=none"),
    ],
)
def test_what_cannot_be_optimised(
    directions: list, metrics: list, prunes: bool, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        check_directions(directions, metrics, prunes)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://lab:s3cret@host:5432/db",
        "postgresql+psycopg://lab@host/db?sslmode=require&password=s3cret",
        "mysql+pymysql://:s3cret@host/db",
        "mysql+pymysql://lab:a@s3cret@host/db",
    ],
)
def test_a_password_in_clear_is_refused_and_not_repeated(url: str) -> None:
    assert "s3cret" not in masked(url) and "***" in masked(url)
    with pytest.raises(UserError) as caught:
        check_no_password(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "sqlite:///a.db",
        "postgresql+psycopg://lab@host/db",
        "postgresql+psycopg://lab:${oc.env:PW}@host/db",
        "${oc.env:URL}",
    ],
)
def test_a_password_from_elsewhere_is_not(url: str | None) -> None:
    check_no_password(url)


def test_current_trial_is_told_by_the_job_s_config(
    whole_config: Any, compose_config: Callable[..., Any]
) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    from src.jobs.trial import current_trial

    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(whole_config)
        assert current_trial() is None  # the sweep itself, or a run that is no trial
        job = whole_config.copy()
        with read_write(job.hydra), open_dict(job.hydra):
            job.hydra.job.num = 3
            job.hydra.job.config_name = "config"
        HydraConfig.instance().set_config(job)
        trial = current_trial()
    finally:
        HydraConfig.instance().cfg = before
    assert trial is not None
    assert (trial.number, trial.study) == (3, "beta_vae_digits-beta_vae")
    assert trial.directory.as_posix() == "logs/beta_vae_digits/sweeps/beta_vae_digits-beta_vae"
    assert trial.directions == ("maximize",) and trial.may_be_pruned
