"""The only caller of Hydra's ``instantiate``, and the owner of the list of targets a config may name."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from src.utils.errors import UserError, nearest

# What a person's own config may name: our code and the libraries that it configures.
ALLOWED = (
    "src.models.",
    "src.datamodules.",
    "src.callbacks.",
    "src.evaluation.features.",
    "src.recordings.policies.",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "lightning.pytorch.profilers.",
    "lightning.pytorch.strategies.",
    "lightning.pytorch.trainer.trainer.",
    "torch.nn.modules.",
    "torch.optim.",
)
# What a config that came with somebody else's run may name: models and their parts.
FOREIGN = ("src.models.",)
# What values of the wrong kind make a constructor raise.
UNSOUND = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError)
# Old runs name classes where they used to live: {"src.old.Name": "src.new.Name"}.
ALIASES: dict[str, str] = {
    "src.callbacks.loggers.WandbRunLogger": "src.callbacks.trackers.wandb.WandbRunLogger",
    "src.callbacks.loggers.MLflowRunLogger": "src.callbacks.trackers.mlflow.MLflowRunLogger",
}


def locate(target: str, allowed: tuple[str, ...] = ALLOWED) -> type:
    """The class that ``target`` names.

    Only classes are accepted, judged by the module that *defines* them, so that neither
    ``src.models.vae.torch.hub.load`` nor a function of ours that starts a process passes.

    Raises:
        UserError: the name is not allowed, does not exist, or is no class.
    """
    if not isinstance(target, str):
        raise UserError(f"_target_ {target!r} is refused: it must be the dotted name of a class")
    target = ALIASES.get(target, target)
    module_name, _, class_name = target.rpartition(".")
    # Nothing is imported but allowed modules and the packages above them, which may name their classes too.
    if not any(
        f"{module_name}.".startswith(prefix) or prefix.startswith(f"{module_name}.")
        for prefix in allowed
    ):
        raise UserError(
            f"_target_ '{target}' is refused: a config may only name classes of {_listing(allowed)}"
        )
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise  # a dependency of the module is missing, which is another story
        raise UserError(
            f"_target_ '{target}' does not exist: there is no module '{module_name}'"
        ) from error
    if not hasattr(module, class_name):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise UserError(f"_target_ '{target}' does not exist{nearest(class_name, classes)}")
    found = getattr(module, class_name)
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(allowed):
        raise UserError(
            f"_target_ '{target}' is refused: a config may only name classes of {_listing(allowed)}"
        )
    return found


def build(cfg: Any, *args: Any, allowed: tuple[str, ...] = ALLOWED, **kwargs: Any) -> Any:
    """Construct what ``cfg`` describes; anything that is no ``_target_`` node is returned as it is.

    Raises:
        UserError: a target is refused or unknown, or a key is not one of its arguments.
    """
    if not isinstance(cfg, Mapping) or "_target_" not in cfg:
        return cfg
    if allowed != ALLOWED and "${" in repr(cfg):
        raise UserError("a stranger's config may not hold interpolations (${…}); none is resolved")
    from hydra.utils import instantiate  # 0.4 s, which listing runs does not wait for

    check_signatures(cfg, allowed)
    target = locate(cfg["_target_"], allowed)
    whitelist = [
        f"{target.__module__}.{target.__qualname__}",
        *(f"{prefix}*" for prefix in allowed),
    ]
    cfg = {**plain(cfg), "_target_": f"{target.__module__}.{target.__qualname__}"}
    return instantiate(cfg, *args, _execution_whitelist_=whitelist, **kwargs)


@contextmanager
def sound(where: str) -> Iterator[None]:
    """What a stranger's config makes a class of ours stumble over, a word for a number say, is one sentence.

    Args:
        where: the config lies.

    Raises:
        UserError: naming it.
    """
    from hydra.errors import InstantiationException

    try:
        yield
    except UserError:
        raise
    except (*UNSOUND, InstantiationException) as error:
        told = str(error).partition("\n")[0]
        raise UserError(f"what {where} describes cannot be built: {told}") from error


def build_each(cfg: Any) -> list[Any]:
    """The objects of a group whose entries are ``name: {_target_: …}``; an entry of ``null`` is left out."""
    return [build(node) for node in (cfg or {}).values() if node and "_target_" in node]


def check_signatures(cfg: Any, allowed: tuple[str, ...] = ALLOWED, where: str = "") -> None:
    """Compare the keys of every ``_target_`` node with the arguments of the class it names.

    Raises:
        UserError: at the first key that its class does not take.
    """
    for path, node in _target_nodes(cfg, where):
        signature = inspect.signature(locate(node["_target_"], allowed))
        if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            continue
        for key in node:
            if not str(key).startswith("_") and key not in signature.parameters:
                name = f"{path}.{key}".lstrip(".")
                raise UserError(
                    f"'{name}' is not a setting of {node['_target_']}{nearest(key, signature.parameters)}"
                )


def _target_nodes(cfg: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    cfg = plain(cfg)
    if isinstance(cfg, Mapping):
        if "_target_" in cfg:
            yield where, cfg
        for key, value in cfg.items():
            yield from _target_nodes(value, f"{where}.{key}")
    elif isinstance(cfg, list | tuple):
        for index, value in enumerate(cfg):
            yield from _target_nodes(value, f"{where}[{index}]")


def plain(cfg: Any) -> Any:
    """A config's values as Python's own, resolved; what is none stays as it is."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def _listing(prefixes: tuple[str, ...]) -> str:
    return ", ".join(prefix.rstrip(".") for prefix in prefixes)
