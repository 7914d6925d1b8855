"""What a config may name, and what it may not."""

import builtins
import os
import subprocess

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import OmegaConf

import src.models.vae  # noqa: F401  # before the traps are set: what it imports uses eval
from src.models.posteriors import DiagonalGaussian
from src.models.priors import StandardNormal
from src.utils import build as module
from src.utils.build import FOREIGN, build, build_each, check_signatures, locate
from src.utils.errors import UserError

REFUSED = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.print",
    "eval",
    "torch",
    "src",
    "",
    "torch.hub.load",
    "torch.load",
    "src.models.vae.torch.hub.load",
    "src.models.vae.torch",
    "src.models.vae.build",  # ours, and a function
    "src.models.vae.LightningModule",  # a class, but not defined where it is named
    "src.models.vae.slerp",
    "src.runs.record.git_commit",  # ours, and starts a process
    "src.utils.main.entry_point",
    "src.runs.record.RunRecord",  # a class of ours that writes files
    "lightning.pytorch.utilities.seed.os.system",
    "torch.utils.cpp_extension.load",
    "hydra.utils.instantiate",
    "src.models",
    "src.models.",
    "src/models",
    "../src.models.vae.VAE",
    3,
    None,
    ["src.models.vae.VAE"],
    {"a": 1},
]


@pytest.mark.parametrize("target", REFUSED, ids=repr)
def test_a_config_cannot_name_what_is_no_part(monkeypatch, target):
    def caught(*args, **kwargs):
        raise AssertionError("executed")

    for owner, name in (
        (os, "system"),
        (subprocess, "Popen"),
        (builtins, "eval"),
        (torch.hub, "load"),
        (torch, "load"),
    ):
        monkeypatch.setattr(owner, name, caught)
    for allowed in (module.ALLOWED, FOREIGN):
        with pytest.raises(UserError, match="refused|does not exist"):
            build({"_target_": target, "_args_": ["true"]}, allowed=allowed)


@pytest.mark.parametrize(
    "target",
    [
        "src.datamodules.DigitsDataModule",
        "torch.optim.Adam",
        "lightning.pytorch.loggers.CSVLogger",
        "src.callbacks.figures.Figures",
    ],
)
def test_a_strangers_config_may_name_models_and_their_parts_only(target):
    assert isinstance(locate(target), type)
    with pytest.raises(UserError, match="may only name classes of src.models$"):
        locate(target, FOREIGN)


def test_targets_are_refused_at_any_depth():
    evil = {"_target_": "os.system"}
    for nested in (evil, [evil], {"a": [1, {"b": evil}]}):
        with pytest.raises(UserError, match="'os.system' is refused"):
            build(
                {
                    "_target_": "src.models.priors.StandardNormal",
                    "_recursive_": False,
                    "dim": nested,
                }
            )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("src.models.priors.StandardNorml", "does not exist; nearest: 'StandardNormal'"),
        ("src.models.prior.StandardNormal", "there is no module 'src.models.prior'"),
        ("src.models.vae.VAE.sample", "there is no module 'src.models.vae.VAE'"),
    ],
)
def test_a_misspelt_target_names_the_nearest(target, message):
    with pytest.raises(UserError, match=message):
        locate(target)


def test_building():
    prior = build({"_target_": "src.models.priors.StandardNormal", "dim": 3})
    assert isinstance(prior, StandardNormal) and prior().event_shape == (3,)
    cfg = OmegaConf.create(
        {
            "size": 5,
            "part": {
                "_target_": "src.models.posteriors.DiagonalGaussian",
                "in_features": "${size}",
            },
        }
    )
    assert isinstance(build(cfg.part, dim=2), DiagonalGaussian)
    assert (
        build(None) is None
        and build(prior) is prior
        and build({"no": "target"}) == {"no": "target"}
    )


def test_a_group_is_built_in_order_without_what_is_switched_off():
    stopping = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val/loss"}
    built = build_each({"a": stopping, "b": None, "c": {}, "d": stopping | {"patience": 7}})
    assert [type(one) for one in built] == [EarlyStopping] * 2 and [
        one.patience for one in built
    ] == [3, 7]
    assert build_each(None) == []


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": "src.models.priors.StandardNormal", "dmi": 2},
            "'model.dmi' is not a setting of src.models.priors.StandardNormal; nearest: 'dim'",
        ),
        (
            {"a": [{"_target_": "torch.optim.Adam", "learning": 1}]},
            r"'model.a\[0\].learning' is not a setting of torch.optim.Adam",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_place(node, message):
    with pytest.raises(UserError, match=message):
        check_signatures(node, where="model")


def test_every_shipped_config_has_only_known_keys(compose_config):
    for data in ("data=digits",):
        for override in (
            "logger=many",
            "callbacks=minimal",
            "trainer=ddp",
            "model/scheduler=cosine",
            "logger=mlflow",
            "logger=csv",
        ):
            cfg = compose_config(data, override, "paths.output_dir=/nowhere")
            for group in ("model", "data", "trainer", "callbacks", "logger"):
                check_signatures(cfg[group], where=group)


def test_a_class_that_has_moved_is_found_by_its_old_name(monkeypatch, tiny_config):
    monkeypatch.setitem(
        module.ALIASES, "src.models.old.Normal01", "src.models.priors.StandardNormal"
    )
    config = tiny_config() | {"prior": {"_target_": "src.models.old.Normal01", "dim": 4}}
    assert isinstance(build(config["prior"]), StandardNormal)
    assert isinstance(build(config, allowed=module.ALLOWED).latent.prior, StandardNormal)


def test_an_alias_opens_no_door(monkeypatch):
    monkeypatch.setitem(module.ALIASES, "src.models.old.Thing", "os.system")
    with pytest.raises(UserError, match="refused"):
        build({"_target_": "src.models.old.Thing"})
