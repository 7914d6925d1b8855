"""What a command line of ``run_experiment.py`` comes to, composed without running anything."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from src.jobs.space import examples, overrides_of, parse_space
from src.utils.arguments import MULTIRUN, is_multirun, key_of, quoted
from src.utils.build import plain
from src.utils.choices import arguments_of, documented
from src.utils.errors import UserError
from src.utils.main import CONF, one_sentence, register_resolvers, with_resumed_run

# Text that Hydra reads as itself.
PLAIN = re.compile(
    r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_/][\w./-]*|\$\{[^{}]*\}", re.IGNORECASE
)
# Groups that say how several runs are drawn and started.
SEVERAL = ("hydra/sweeper", "hydra/launcher")
# Sweepers that decide from run to run what comes next.
SEARCHES = ("study", "array")
MOST_RUNS = 10_000  # of one command
# Stands for the run's directory, which is decided when the run starts.
RUN_DIRECTORY = "RUN_DIRECTORY"
# Hydra composes in global state; the windows of the app are threads of one process.
_composing = threading.Lock()


@dataclass(frozen=True)
class Setting:
    """One key of a composed config.

    Attributes:
        key: dotted.
        value: as it may be written behind ``key=``; resolved where that is possible.
        default: what conf/ has for it under the same choices of groups; empty where it has no such key.
        about: what conf/, else the docstring of what it configures, says of it.
    """

    key: str
    value: str
    default: str
    about: str


@dataclass(frozen=True)
class Composed:
    """What a command line comes to.

    Attributes:
        choices: group → the option chosen, as the command line names them: ``model/prior``, ``sampler@model.sampler``.
        settings: of the one run, or of the first of several.
        runs: how many runs the command starts; None for a search, which decides that itself.
        error: what keeps the config from being used, though it composes; in one sentence.
    """

    choices: dict[str, str]
    settings: list[Setting]
    runs: int | None
    error: str | None


def composed(arguments: Sequence[str]) -> Composed:
    """Compose what ``python run_experiment.py <arguments>`` would train.

    Raises:
        UserError: it does not compose, in one sentence with the nearest valid choice.
    """
    with _told(), _composing:
        register_resolvers()
        jobs = jobs_of(arguments)
        overrides = _without_places(with_resumed_run(jobs[0]))
        cfg = _compose(overrides)
        choices = {
            group: str(option)
            for group, option in cfg.hydra.runtime.choices.items()
            if option is not None and (not group.startswith("hydra/") or group.startswith(SEVERAL))
        }
        groups = [one for one in overrides if key_of(one) in cfg.hydra.runtime.choices]
        about = dict(_comments(overrides))
        values, error = _values(cfg)
        defaults = values if groups == overrides else _values(_compose(groups))[0]
    searches = is_multirun(arguments) and choices.get("hydra/sweeper") in SEARCHES
    runs = None if searches else len(jobs)
    return Composed(choices, [*_settings(values, defaults, about)], runs, error)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(one_sentence(error)) from error


def jobs_of(arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every run that a command starts; of a search those of trials in which every choice occurs."""
    overrides = [argument for argument in arguments if argument not in MULTIRUN]
    if not is_multirun(arguments):
        _check_single(overrides)
        return [overrides]
    chosen, given = _sweeper(overrides)
    if chosen in SEARCHES:
        return _trials([*given, *overrides])
    parsed = OverridesParser.create().parse_overrides([*given, *overrides])
    _check_number(parsed)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def _check_single(overrides: Sequence[str]) -> None:
    for one in OverridesParser.create().parse_overrides([*overrides]):
        if one.is_sweep_override():
            key, _, value = str(one.input_line).partition("=")
            raise UserError(
                f"{key} has several values: add -m for a run with each of them, or write {key}=[{value}] for a list"
            )


def _check_number(parsed: Sequence[Override]) -> None:
    """Refuse so many runs that already to list them would take the memory that other pages need."""
    number = 1
    for one in parsed:
        if one.is_sweep_override():
            number *= sum(1 for _ in islice(one.sweep_iterator(), MOST_RUNS + 1))
        if number > MOST_RUNS:
            raise UserError(
                f"that would be more than {MOST_RUNS} runs: give {one.key_or_group} fewer values"
            )


def _sweeper(overrides: Sequence[str]) -> tuple[str, list[str]]:
    """What draws the runs of a multirun, and what the config itself, an experiment or a search, varies in them."""
    register_resolvers()
    hydra = _compose(_without_spaces(overrides)).hydra
    params = [f"{name}={space}" for name, space in (hydra.sweeper.params or {}).items()]
    return str(hydra.runtime.choices["hydra/sweeper"]), params


def _trials(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of trials in which every choice of a study's search space occurs."""
    space, fixed, deletions = parse_space(overrides)
    rest = [*(f"{name}={value}" for name, value in fixed.items()), *deletions]
    return [[*overrides_of(point), *rest] for point in examples(space)]


def _without_spaces(overrides: Sequence[str]) -> list[str]:
    parsed = OverridesParser.create().parse_overrides([*overrides])
    return [str(one.input_line) for one in parsed if not one.is_sweep_override()]


def _without_places(overrides: Sequence[str]) -> list[str]:
    """Without where the run lies, which composing does not need and a resumed run's arguments have."""
    return [one for one in overrides if not key_of(one).startswith("hydra.run.")]


def _compose(overrides: Sequence[str]) -> DictConfig:
    with initialize_config_dir(str(CONF)):
        return compose("config", overrides=[*overrides], return_hydra_config=True)


def _comments(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Dotted key → what the files say of it that the config is composed of, the last ones last."""
    with initialize_config_dir(str(CONF)):
        loader = GlobalHydra.instance().config_loader()
        merged = loader.compute_defaults_list("config", [*overrides], RunMode.RUN).defaults
    for one in merged:
        file = CONF / f"{one.config_path}.yaml"
        if file.exists():
            for key, about in documented(file).items():
                yield f"{one.package or ''}.{key}".lstrip("."), about


def _values(cfg: DictConfig) -> tuple[dict[str, tuple[str, str]], str | None]:
    """Dotted key → the resolved and the written value of every leaf; and what cannot be resolved, in a sentence."""
    error = None
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = RUN_DIRECTORY
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    found: dict[str, tuple[str, str]] = {}
    for key, written in _leaves(OmegaConf.to_container(cfg, resolve=False), ""):
        try:
            resolved = as_text(plain(OmegaConf.select(cfg, key, throw_on_missing=True)))
        except (UserError, OmegaConfBaseException) as problem:
            error, resolved = error or f"{key}: {one_sentence(problem)}", as_text(written)
        found[key] = (resolved, as_text(written))
    return found, error


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _settings(
    values: dict[str, tuple[str, str]],
    defaults: dict[str, tuple[str, str]],
    about: dict[str, str],
) -> Iterator[Setting]:
    for key, (value, _) in values.items():
        parent, _, name = key.rpartition(".")
        if name.startswith("_"):  # which class it is belongs to the choice of a group
            continue
        target = values.get(f"{parent}._target_", ("", ""))[0]
        said = about.get(key) or arguments_of(target).get(name, "")
        yield Setting(key, value, defaults.get(key, ("", ""))[1], said)


def as_text(value: Any) -> str:
    """A plain value as it may be written behind ``key=``."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, list):
        return f"[{','.join(as_text(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{as_text(one)}' for key, one in value.items())}}}"
    return _string_text(value) if isinstance(value, str) else str(value)


def _string_text(value: str) -> str:
    return value if PLAIN.fullmatch(value) or _reads_as_itself(value) else quoted(value)


def _reads_as_itself(value: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(f"key={value}").value() == value)
    except HydraException:
        return False
