"""Commands as a person types them, composed without running them."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from src.jobs.commands import jobs_of
from src.utils.main import CONF, register_resolvers

# Groups that the command line places somewhere else than where their files lie.
PACKAGES = {
    "sampler": "sampler@model.sampler",
    "policy": "+policy",  # scripts/record.py has one, and no training
}


def jobs(command: str) -> list[list[str]]:
    """The overrides of every job that ``python run_experiment.py …`` starts; several with ``-m``."""
    typed = get_args_parser().parse_args(shlex.split(command)[2:])
    return jobs_of(["-m"] * typed.multirun + typed.overrides)


def resolved(
    overrides: Sequence[str], output: Path, more_configs: Path | None = None
) -> dict[str, Any]:
    """What the root config and ``overrides`` resolve to for a run in ``output``."""
    register_resolvers()
    extra = [f"hydra.searchpath=[file://{more_configs}]"] if more_configs else []
    with initialize_config_dir(str(CONF)):
        cfg = compose("config", overrides=[*overrides, *extra], return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(output)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def options() -> Iterator[str]:
    """``group=option`` for every file of conf/ but the root config."""
    for file in sorted(CONF.rglob("*.yaml")):
        *group, option = file.relative_to(CONF).with_suffix("").parts
        # A critic is chosen by the objectives that have one.
        if group and group not in (["local"], ["model", "critic"]):
            yield f"{PACKAGES.get(group[0], '/'.join(group))}={option}"
