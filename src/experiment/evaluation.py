"""A finished run tested again, with another sampler if asked."""

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.callbacks.energy import CalibrateEnergy
from src.callbacks.figures import Figures
from src.callbacks.report import TestReport
from src.callbacks.sampler import FitSampler
from src.evaluation.features import Features, FileFeatures
from src.experiment.assembly import quiet_libraries
from src.runs.loading import (
    CALIBRATION,
    WEIGHTS,
    checkpoint_model,
    load_model,
    portable,
    read_plain_config,
    save_model,
)
from src.runs.reading import read_run
from src.runs.record import CONFIG_FILE
from src.utils.build import FOREIGN, build, locate
from src.utils.errors import UserError

log = logging.getLogger(__name__)
# What a config that came with somebody else's run may name to compare samples by.
FEATURES = ("src.evaluation.features.",)


def evaluate_run(cfg: DictConfig) -> None:
    """Test a run's best weights again, whoever trained it, and write ``results.json`` and figures into it.

    With a sampler they go to ``samplers/<its name>/``, beside the model that samples from it.

    Raises:
        UserError: there is no run, no weights, or its config names anything but models and data.
    """
    quiet_libraries()
    run = read_run(cfg.run)
    config = read_plain_config(run.path / CONFIG_FILE)
    if not {"model", "data"} <= config.keys():
        raise UserError(f"{run.path / CONFIG_FILE} names no model and data to evaluate")
    if "root" in config["data"]:  # a stranger's run must not say where this machine writes
        config["data"]["root"] = cfg.recordings
    data = build(config["data"], allowed=("src.datamodules.",))
    if not (run.path / "model" / WEIGHTS).exists():
        found, _ = checkpoint_model(run.path, config["model"])
        save_model(found, portable(config["model"]), run.path / "model")
    # It opens the file, and a stranger's may be refused.
    model = load_model(run.path)
    directory, portable_config = run.path, None
    if cfg.sampler:
        directory = run.path / "samplers" / HydraConfig.get().runtime.choices["sampler"]
        directory.mkdir(parents=True, exist_ok=True)
        portable_config = config["model"] | {"sampler": _sampler_for(cfg, config)}
        # Its sizes come from the run, which may be a stranger's.
        model.use_sampler(build(portable_config["sampler"], allowed=FOREIGN))
    report = TestReport(
        directory,
        cfg.importance_samples,
        {"checkpoint": run.results.get("checkpoint", "last weights")},
        build(cfg.features) if "features" in cfg else features_of(config.get("features")),
        run.path,
    )
    callbacks = [
        FitSampler(),
        report,
        Figures(str(directory)),
        *_calibration(cfg, run.path, directory, config),
    ]
    trainer = build(cfg.trainer, callbacks=callbacks, logger=False)
    trainer.test(model, datamodule=data, verbose=False)
    if portable_config:
        save_model(model, portable(portable_config), directory / "model")


def _calibration(
    cfg: DictConfig, run: Path, directory: Path, config: dict[str, Any]
) -> list[CalibrateEnergy]:
    """What calibrates the energy anew, of runs where it was calibrated, or was meant to be, unless told otherwise.

    It lies beside the tested model: with a sampler that is another one than the run's.
    """
    asked = (config.get("callbacks") or {}).get("energy")
    wanted = cfg.get("calibrate")
    if not (asked or (run / "model" / CALIBRATION).exists() if wanted is None else wanted):
        return []
    known = ("rows", "mode", "k", "reject_above", "batch_size")
    settings = {key: value for key, value in (asked or {}).items() if key in known}
    try:
        return [CalibrateEnergy(str(directory), **settings)]
    except TypeError as error:  # a stranger's config may hold anything
        raise UserError(
            f"callbacks.energy of {run / CONFIG_FILE} is no setting: {error}"
        ) from error


def _sampler_for(cfg: DictConfig, config: dict[str, Any]) -> dict[str, Any]:
    """The chosen sampler's config, with the sizes of the run's model and data."""
    known = OmegaConf.create({"model": config["model"], "data": config["data"]})
    merged = OmegaConf.merge(known, {"sampler": OmegaConf.to_container(cfg.sampler)})
    return OmegaConf.to_container(merged.sampler, resolve=True)  # type: ignore[return-value]


def features_of(config: dict[str, Any] | None) -> Features | None:
    """What a run compared samples by; a file that it names is not opened unasked.

    Raises:
        UserError: the config names anything else.
    """
    if config and any(isinstance(value, dict | list) for value in config.values()):
        raise UserError(
            "the features of this run are not described by plain values, and are not built"
        )
    if config and locate(config["_target_"], FEATURES) is FileFeatures:
        log.warning("this run compared samples by a file: choose it again with features=file")
        return None
    return build(config, allowed=FEATURES)
