"""The catalogue of variants: what ``docs/models.md`` says comes from ``conf/model`` and the models built there."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.evaluation.metrics import trained_parameters
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import CONF, register_resolvers

HEADER = re.compile(r"# (?P<title>[^\n:]+): (?P<paper>[^\n]+)\n# Use: (?P<use>[^\n]+)\n")
# Groups of parts, as the command line names them.
GROUPS = (
    "latent",
    "encoder",
    "decoder",
    "posterior",
    "prior",
    "metric",
    "likelihood",
    "objective",
    "scheduler",
)
SAMPLER = "sampler@model.sampler"
# What the models of a kind of data are counted on, where it is not cyclic_sprites.
DATA = {"image": "digits", "frame": "atari", "vector": "hand_poses"}
PREAMBLE = """# Models

Every file of `conf/model/` is a variant: `python run_experiment.py model=<name>`. This page is made from those files by
`python scripts/catalogue.py`. *Parts* is what differs from `vae`; a part is changed on the command line too, such as
`model=vae model/posterior=iaf model/objective=iwae`. How to add one: [extending.md](extending.md). What they reach on
digits: [results/zoo_digits.md](results/zoo_digits.md).
"""


@dataclass(frozen=True)
class Variant:
    """One file of ``conf/model``.

    Attributes:
        name: the file's stem, which is what a user types.
        title, paper, use: from the file's first two lines.
        kind: of the data that it chooses: image, frame (a picture with a background), sequence, …
        parts: what differs from ``vae``: options of groups, then settings.
        parameters: that its training learns, on the data that it chooses; a sampler's come later.
    """

    name: str
    title: str
    paper: str
    use: str
    kind: str
    parts: tuple[str, ...]
    parameters: int


@cache
def variants() -> tuple[Variant, ...]:
    """Every variant, in the order of names.

    Raises:
        UserError: a file does not begin with its two lines.
    """
    register_resolvers()
    found = []
    with initialize_config_dir(str(CONF)):
        plain = _compose("vae")
        for file in sorted((CONF / "model").glob("*.yaml")):
            header = HEADER.match(file.read_text(encoding="utf-8"))
            if header is None:
                raise UserError(
                    f"conf/model/{file.name} must begin with '# Name: Authors year, title, arXiv:….' and '# Use: ….'"
                )
            cfg = _compose(file.stem)
            parameters = trained_parameters(build(cfg.model))
            parts = tuple(_parts(cfg, plain))
            title, paper, use = header.group("title", "paper", "use")
            kind = "frame" if cfg.data.get("background") else cfg.data.kind
            found.append(Variant(file.stem, title, paper, use, kind, parts, parameters))
    return tuple(found)


def _compose(*overrides: str) -> DictConfig:
    name, *others = overrides
    return compose("config", overrides=[f"model={name}", *others], return_hydra_config=True)


def _parts(cfg: DictConfig, plain: DictConfig) -> Iterator[str]:
    """Options that differ from those of ``plain``, then settings that differ from those of the options."""
    chosen, usual = (_choices(each) for each in (cfg, plain))
    others = {key: option for key, option in chosen.items() if usual.get(key) != option}
    for key, option in others.items():
        yield f"{key.removeprefix('model/').partition('@')[0]} {option}"
    same = _compose("vae", *(f"{key}={option}" for key, option in others.items()))
    mine, theirs = (_leaves(OmegaConf.to_container(each.model)) for each in (cfg, same))
    for key, value in mine.items():
        follows = isinstance(value, str) and "${" in value  # a size that other settings decide
        if key != "name" and theirs.get(key) != value and not follows:
            yield f"{key}={value}"
    for key in cfg.callbacks:
        if key not in plain.callbacks:
            yield f"callbacks.{key}"
    mine, theirs = (_leaves(OmegaConf.to_container(each.callbacks)) for each in (cfg, plain))
    for key, value in mine.items():
        if key in theirs and theirs[key] != value:
            yield f"callbacks.{key}={value}"


def _choices(cfg: DictConfig) -> dict[str, str]:
    choices = cfg.hydra.runtime.choices
    return {
        key: choices[key] for key in [*(f"model/{g}" for g in GROUPS), SAMPLER] if key in choices
    }


def _leaves(node: Any, above: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {above: node}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= _leaves(value, f"{above}.{key}".lstrip("."))
    return found


def page() -> str:
    """``docs/models.md``."""
    found = variants()
    parts = [PREAMBLE]
    for kind in dict.fromkeys(["image", *(variant.kind for variant in found)]):
        of_kind = [variant for variant in found if variant.kind == kind]
        data = DATA.get(kind, "cyclic_sprites")
        parts.append(f"## Of {kind}s\n\n{_table(of_kind, data)}")
    return "\n".join(parts)


def _table(rows: Sequence[Variant], data: str) -> str:
    head = f"| `model=` | paper | parts | use | parameters on `{data}` |\n|---|---|---|---|---|\n"
    lines = [
        f"| `{v.name}` | {v.title}: {v.paper} | {', '.join(f'`{p}`' for p in v.parts)} | {v.use} | {v.parameters:,} |"
        for v in rows
    ]
    return head + "\n".join(lines) + "\n"
