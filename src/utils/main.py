"""The one place that meets Hydra's command line: entry points, errors, resuming."""

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.utils.arguments import MULTIRUN, asks_machine, is_multirun, key_of
from src.utils.build import ALLOWED
from src.utils.ddp import slurm_rank, slurm_tasks
from src.utils.errors import UserError, nearest

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


def entry_point(
    config_name: str = "config",
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Decorate a function of a config so that calling it reads the command line.

    Errors that a user can mend end the process with one sentence and exit status 1; others keep their traceback.
    """

    def decorate(task: Callable[[Any], Any]) -> Callable[[], None]:
        whitelist = tuple(f"{prefix}*" for prefix in ALLOWED)

        @functools.wraps(task)
        def quietly(cfg: Any) -> Any:
            try:
                return task(cfg)
            except (UserError, OmegaConfBaseException) as error:  # before Hydra adds its own lines
                sys.exit(f"error: {one_sentence(error)}")

        run = hydra.main(
            config_path=str(CONF), config_name=config_name, execution_whitelist=whitelist
        )(quietly)

        def command() -> None:
            register_resolvers()
            # Hydra would print its own account of an error; with this it hands the exception to us.
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            try:
                sys.argv[1:] = with_own_files(with_resumed_run(sys.argv[1:]), config_name)
                run()
            except (UserError, HydraException, OmegaConfBaseException) as error:
                sys.exit(f"error: {one_sentence(error)}")

        command.task = task  # type: ignore[attr-defined]  # what a job's own process calls
        return command

    return decorate


def register_resolvers() -> None:
    """The resolvers that conf/ uses; none of them imports torch before it is asked."""
    OmegaConf.register_resolver("picture_shape", _picture_shape, replace=True)
    OmegaConf.register_resolver("recording_shape", _recording_shape, replace=True)
    OmegaConf.register_resolver("window_shape", _window_shape, replace=True)
    OmegaConf.register_resolver("conv_features", _conv_features, replace=True)
    OmegaConf.register_resolver("device_count", _device_count, replace=True)
    OmegaConf.register_resolver("frame_shape", lambda shape: list(shape[1:]), replace=True)
    OmegaConf.register_resolver("sum", _sum, replace=True)
    OmegaConf.register_resolver("elements", prod, replace=True)
    OmegaConf.register_resolver("unused_dir", _unused_dir, replace=True, use_cache=True)
    OmegaConf.register_resolver("job_dir", _job_dir, replace=True, use_cache=True)


def with_resumed_run(arguments: list[str]) -> list[str]:
    """Put the arguments of the run that ``ckpt_path`` belongs to before those given now.

    A run is resumed in its own directory, with the choices it was started with.

    Raises:
        UserError: ``ckpt_path=last`` and there is none.
    """
    paths = [
        argument.split("=", 1)[1] for argument in arguments if argument.startswith("ckpt_path=")
    ]
    if not paths or any(
        argument.startswith(("--config-path", "--config-dir", "hydra.run.dir"))
        for argument in arguments
    ):
        return arguments
    checkpoint = Path(paths[-1].strip("'\""))
    if paths[-1] == "last":
        found = sorted(Path("logs").rglob("last.ckpt"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise UserError("ckpt_path=last finds no last.ckpt below logs/")
        checkpoint = found[-1]
    run = checkpoint.resolve().parent.parent
    # Not from .hydra/, which Hydra rewrites before a resumption can be refused.
    try:
        saved = json.loads((run / "run.json").read_text()).get("overrides", [])
    except (FileNotFoundError, ValueError, AttributeError):
        return arguments  # a checkpoint that belongs to no run
    given = {key_of(argument) for argument in arguments}
    kept = [o for o in saved if isinstance(o, str) and not _is_about_hydra(o)]
    kept = [o for o in kept if key_of(o) not in given]
    for override in kept:
        if asks_machine(override):
            raise UserError(
                f"{run / 'run.json'} holds {override}, which would ask this machine for a value; "
                "give that choice on the command line, spelled out"
            )
    rest = [argument for argument in arguments if not argument.startswith("ckpt_path=")]
    return [*kept, *rest, f"ckpt_path='{checkpoint}'", f"hydra.run.dir='{run}'"]


def with_own_files(arguments: list[str], config_name: str = "config") -> list[str]:
    """Give what ``srun`` has started a run directory that it finds again when SLURM starts the job again.

    Several processes share it, and the first one writes in it.

    Raises:
        UserError: it is a multirun, which every process would do for itself.
    """
    tasks, several = slurm_tasks(), is_multirun(arguments)
    if not tasks or (tasks == 1 and several):
        return arguments
    if several:
        raise UserError(
            "srun has started several processes of a multirun; use -m cluster=slurm without srun"
        )
    own = []
    if config_name == "config" and not any(a.startswith("hydra.run.dir=") for a in arguments):
        job = f"{os.environ['SLURM_JOB_ID']}_{os.environ['SLURM_STEP_ID']}"
        place = f"${{paths.log_dir}}/${{name}}/slurm_{job}"
        # One process may be one command of several in its step; several could not agree on what is unused.
        own = [f"hydra.run.dir='${{job_dir:{place}}}'" if tasks == 1 else f"hydra.run.dir={place}"]
    if rank := slurm_rank():
        own += ["hydra.output_subdir=null", f"hydra.job.name=run_rank{rank}"]
    return [*arguments, *own]


def _is_about_hydra(override: str) -> bool:
    """Whether a saved argument says where or how to run rather than what: a stranger's must not decide that."""
    key = key_of(override)
    own = key.startswith(("-", "hydra", "paths", "ckpt_path", "cluster"))
    own |= override in MULTIRUN or key in ("train", "test")
    return own or "@" in key or key.endswith(("directory", "_dir", "_uri", "_location"))


def one_sentence(error: Exception) -> str:
    """What went wrong, with the nearest valid choice where the config has one."""
    cause: BaseException | None = error
    while cause is not None:  # a resolver's own sentence comes wrapped
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if option := re.search(r"Could not find '(.+)/([^/']+)'", text):
        group, name = option.groups()
        return f"'{group}' has no option '{name}'{nearest(name, options(group))}"
    if key := re.search(r"Could not override '([^']+)'", text):
        return f"there is no setting '{key[1]}'{nearest(key[1], settings())}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def options(group: str) -> list[str]:
    """The names that a config group offers, plugins' own included."""
    found = {file.stem for file in (CONF / group).glob("*.yaml")}
    with suppress(OSError):  # a group that no plugin knows
        found |= {name.removesuffix(".yaml") for name in ConfigStore.instance().list(group)}
    return sorted(found)


def settings() -> set[str]:
    """Every dotted key of every file of conf/, and every group."""
    found: set[str] = set()
    for file in CONF.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text()) or {}
        relative = file.parent.relative_to(CONF)
        # Complete recipes are written against the root.
        at_root = file.read_text().startswith("# @package _global_")
        prefix = "" if at_root else ".".join(relative.parts)
        found |= {str(relative)} if relative.parts else set()
        found |= {
            f"{prefix}.{key}".lstrip(".")
            for key in _dotted(content)
            if not key.startswith(("defaults", "hydra"))
        }
    return found


def _dotted(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from (f"{key}.{rest}" for rest in _dotted(value))


def _picture_shape(path: str | None, size: Any) -> list[int]:
    from src.utils.pictures import picture_shape  # NumPy, which most configs do without

    return picture_shape(path, size)


def _recording_shape(path: str | None, size: Any) -> list[int]:
    from src.utils.pictures import recording_shape

    return recording_shape(path, size)


def _window_shape(window: int, path: str | None, size: Any) -> list[int]:
    return [window, *_recording_shape(path, size)]


def _conv_features(shape: Sequence[int], channels: int, largest: int) -> int:
    from src.utils.pictures import conv_features

    return conv_features(shape, channels, largest)


def _sum(*sizes: Any) -> int:
    """The sum of numbers and lists of numbers: a width that two others make up."""
    return sum(sum(size) if isinstance(size, Sequence) else size for size in sizes)


def _device_count(without_gpu: int, accelerator: str) -> int:
    import torch

    return (0 if accelerator == "cpu" else torch.cuda.device_count()) or int(without_gpu)


def _unused_dir(wanted: str, is_ours: Callable[[Path], bool] = lambda path: False) -> str:
    path, number = Path(wanted), 1
    while path.exists() and not is_ours(path):
        number += 1
        path = Path(f"{wanted}_{number}")
    return str(path)


def _job_dir(wanted: str) -> str:
    return _unused_dir(wanted, _is_interrupted)


def _is_interrupted(run: Path) -> bool:
    """Whether this very command was at work in ``run`` before SLURM started its job again."""
    try:
        known = json.loads((run / "run.json").read_text())
        restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        return known["command"] == " ".join(["python", *sys.argv]) and known["restarts"] < restarts
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or a damaged one
        return False


def data_configs(kinds: tuple[str, ...]) -> list[str]:
    """The names of the data configs whose ``kind`` is one of ``kinds``."""
    files = sorted((CONF / "data").glob("*.yaml"))
    return [
        file.stem for file in files if (yaml.safe_load(file.read_text()) or {}).get("kind") in kinds
    ]
