"""Which data a model can learn from, asked of their configs before any data is read."""

from collections.abc import Callable, Mapping
from typing import Any

from src.utils.build import locate
from src.utils.errors import UserError

Config = Mapping[str, Any]
Fitting = Callable[[tuple[str, ...]], list[str]]


def check_data(model: Config, data: Config, fitting: Fitting) -> None:
    """Refuse a model and data that cannot meet.

    Args:
        model: the model's config; data: the data's, with ``kind`` and ``value_range``.
        fitting: the names of the data configs whose kind is one of those given.

    Raises:
        UserError: with the data configs that fit.
    """
    latent: Any = locate(model["latent"]["_target_"])
    _check_networks(latent, model, data, fitting)
    _check_rotations(model, data)
    _check_likelihood(locate(model["likelihood"]["_target_"]), data, fitting)
    _check_background(model, data)
    if getattr(latent, "condition_key", None) == "label" and not data.get("classes"):
        raise UserError(
            f"model.latent {latent.__name__} needs labels, and data={data.get('name')} names no data.classes; "
            "data that fits: digits, or images with data.classes=<how many>"
        )


def _check_networks(latent: Any, model: Config, data: Config, fitting: Fitting) -> None:
    kind = data["kind"]
    needed: tuple[str, ...] | None = getattr(latent, "kinds", None)
    if needed and kind not in needed:
        raise UserError(
            f"model.latent {latent.__name__} takes {' or '.join(needed)} data, not '{kind}'; data "
            f"that fits: {', '.join(fitting(needed))}"
        )
    if needed == ("sequence",):  # its networks see one frame at a time
        kind = "image" if len(data["shape"]) == 4 else "vector"
    for part in ("encoder", "decoder"):
        network = locate(model[part]["_target_"])
        kinds: tuple[str, ...] = getattr(network, "kinds", (kind,))
        if kind not in kinds:
            frames = " of frames" if needed == ("sequence",) else ""
            raise UserError(
                f"model.{part} {network.__name__} takes {' or '.join(kinds)} data, not "
                f"'{kind}'{frames}; data that fits: {', '.join(fitting(kinds))}"
            )


def _check_likelihood(likelihood: Any, data: Config, fitting: Fitting) -> None:
    if likelihood.support == "unit" and data.get("value_range") != "unit":
        raise UserError(
            f"model.likelihood {likelihood.__name__} needs data in [0, 1]; data that fits: "
            f"{', '.join(fitting(('image',)))}"
        )
    if likelihood.kinds and data["kind"] not in likelihood.kinds:
        raise UserError(
            f"model.likelihood {likelihood.__name__} takes {' or '.join(likelihood.kinds)} data, not '{data['kind']}'; "
            f"data that fits: {', '.join(fitting(likelihood.kinds))}"
        )


def _check_rotations(model: Config, data: Config) -> None:
    for part in ("encoder", "decoder", "likelihood"):
        found = locate(model[part]["_target_"])
        if getattr(found, "support", None) == "rotation" and data.get("value_range") != "rotation":
            raise UserError(
                f"model.{part} {found.__name__} takes joints as rotation vectors in radians, and "
                f"data={data.get('name')} has none; data that fits: hand_poses"
            )


def _check_background(model: Config, data: Config) -> None:
    for part in ("encoder", "decoder", "objective"):
        found = locate(model[part]["_target_"])
        if getattr(found, "needs_background", False) and not data.get("background"):
            raise UserError(
                f"model.{part} {found.__name__} learns what moves before a background, and data={data.get('name')} "
                "has none; data that fits: atari, recordings, both with data.background=true"
            )
