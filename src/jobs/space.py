"""What a study searches: spaces as hydra-optuna-sweeper writes them, the samplers that suggest from them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from src.utils.arguments import quoted
from src.utils.errors import UserError, nearest

# A grid and a quasi-random sequence are one list in a fixed order; the others draw every trial anew.
ORDERED = ("GridSampler", "QMCSampler")


def parse_space(arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Split ``key=value`` arguments.

    Returns:
        Searched setting → Optuna's distribution; fixed setting → value; deletions (``~key``) as they were written.

    Raises:
        UserError: a space that cannot be read.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    # What is said last holds: an argument replaces the search file's space.
    last = {argument.split("=", 1)[0]: argument for argument in arguments}
    try:
        space, fixed, deletions = create_params_from_overrides([*last.values()])
    except (ValueError, NotImplementedError, AssertionError) as error:
        raise UserError(f"hydra.sweeper.params: {error}") from error
    return space, {name: str(value) for name, value in fixed.items()}, deletions


def overrides_of(params: dict[str, Any]) -> list[str]:
    """A trial's parameters as arguments."""
    return [f"{name}={'null' if value is None else value}" for name, value in params.items()]


def fix(config: DictConfig, key: str, value: str) -> None:
    """Give every job the value that the sweep has, even where it is made of something that is searched."""
    parent, name = key.rsplit(".", 1)
    node, known = OmegaConf.select(config, parent), config.hydra.overrides.hydra
    with read_write(node), read_write(known):
        node[name] = value
        known.append(f"{key}={quoted(value)}")


def values_of(distribution: Any) -> list[Any]:
    """Every value of a discrete distribution.

    Raises:
        UserError: it is continuous.
    """
    from optuna.distributions import CategoricalDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    step = distribution.step
    if step is None or distribution.log:
        raise UserError(
            f"a grid needs values, and {distribution} has none; write choice(…) or range(start,stop,step)"
        )
    count = round((distribution.high - distribution.low) / step) + 1
    return [distribution.low + k * step for k in range(count)]


def examples(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Points in which every choice of every setting occurs, to see whether they compose."""
    from optuna.distributions import CategoricalDistribution

    columns = {
        name: list(d.choices) if isinstance(d, CategoricalDistribution) else [d.low]
        for name, d in space.items()
    }
    longest = max(len(column) for column in columns.values())
    return [
        {name: column[i % len(column)] for name, column in columns.items()}
        for i in range(min(longest, 30))
    ]


def defaults_in(space: dict[str, Any], config: DictConfig) -> dict[str, Any] | None:
    """The config's own values of what is searched; None where one is missing or lies outside the space."""
    from optuna.distributions import CategoricalDistribution

    found = {}
    choices = config.hydra.runtime.choices
    for name, distribution in space.items():
        key = name.lstrip("+")
        value = choices[key] if key in choices else OmegaConf.select(config, key)
        if isinstance(distribution, CategoricalDistribution):
            same = [choice for choice in distribution.choices if str(choice) == str(value)]
            if not same:
                return None
            found[name] = same[0]
        elif isinstance(value, int | float) and _contains(distribution, value):
            found[name] = value
        else:
            return None
    return found


def _contains(distribution: Any, value: float) -> bool:
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def grid_size(config: Any, space: dict[str, Any]) -> int | None:
    """How many points a grid has; None for samplers without one."""
    if _kind(config) != "GridSampler":
        return None
    size = 1
    for distribution in space.values():
        size *= len(values_of(distribution))
    return size


def sampler_factory(config: Any, space: dict[str, Any], seed: int) -> Callable[[int], Any]:
    """A trial's number → the sampler that suggests it.

    Args:
        config: ``hydra.sweeper.sampler``.
        space: searched setting → distribution.
        seed: of the study, where the sampler has none of its own.

    Raises:
        UserError: there is no such sampler, or it lacks a package.
    """
    from hydra.utils import instantiate

    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    own = plain.get("seed")
    base = seed if own is None else int(own)

    def make(number: int) -> Any:
        drawn = base if _kind(config) in ORDERED else _seed(base, number)
        try:
            sampler = instantiate(
                plain | {"seed": drawn},
                _execution_whitelist_=("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*"),
            )
            if _kind(config) == "GridSampler":
                return sampler({name: values_of(d) for name, d in space.items()})
            return sampler
        except ModuleNotFoundError as error:
            raise UserError(f"this sampler needs the package '{error.name}'") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"hydra.sweeper.sampler: {' '.join(str(error).split())}") from error

    make(0)  # now, rather than when the study has been made
    return make


def _kind(config: Any) -> str:
    return str(config.get("_target_", "")).rsplit(".", 1)[-1]


def _seed(base: int, number: int) -> int:
    from numpy.random import SeedSequence

    return int(SeedSequence([base % 2**32, number]).generate_state(1)[0])


def check_directions(directions: Sequence[str], metrics: Sequence[str], prunes: bool) -> None:
    """Refuse what cannot be optimised.

    Raises:
        UserError: an unknown direction, not one for every metric, or a pruner for several.
    """
    for direction in directions:
        if direction not in ("minimize", "maximize"):
            raise UserError(
                f"hydra.sweeper.direction={direction} is unknown{nearest(direction, ('minimize', 'maximize'))}"
            )
    if not metrics:
        raise UserError("a study needs optimized_metric=<the metric of a run that it optimises>")
    if len(directions) != len(metrics):
        raise UserError(
            f"hydra.sweeper.direction has {len(directions)} for optimized_metric={','.join(metrics)}, which are "
            f"{len(metrics)}: give one for every metric"
        )
    if prunes and len(metrics) > 1:
        raise UserError(
            "a study of several metrics cannot prune, because Optuna compares one: hydra/sweeper/pruner=none"
        )


def check_settings(
    config: DictConfig, directions: Sequence[str], counts: Mapping[str, float], prunes: bool
) -> list[str]:
    """The names of what is optimised, once the sweep's settings are known to make sense.

    Args:
        counts: ``n_trials``, ``n_jobs`` and ``max_failure_rate``.
        prunes: whether there is a pruner.

    Raises:
        UserError: naming the setting.
    """
    from src.jobs.storage import check_no_password

    raw: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    check_no_password(raw["storage"])
    metric = config.get("optimized_metric")
    metrics = [metric] if isinstance(metric, str) else list(metric or [])
    check_directions(directions, metrics, prunes)
    for name, value in counts.items():
        least = 0 if name == "max_failure_rate" else 1
        if value < least:
            raise UserError(f"hydra.sweeper.{name}={value} must be at least {least}")
    unresolved: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if unresolved["subdir"] != "${hydra.job.num}":
        raise UserError(
            f"hydra.sweep.subdir={unresolved['subdir']}: a study keeps trial n in the directory n; leave it as it is"
        )
    return metrics
