"""Opening models and checkpoints, one's own or a stranger's, without running anything that they contain."""

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.runs.reading import read_object
from src.runs.record import write_atomic
from src.utils.build import FOREIGN, build, locate, sound
from src.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, CONFIG, CALIBRATION = "model.safetensors", "config.yaml", "energy.json"
# What PyYAML raises besides its own errors, at a 13th month for one.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def save_model(model: "nn.Module", config: dict[str, Any], directory: Path) -> None:
    """Write a model so that it can be opened anywhere: weights as safetensors, parts as YAML."""
    import yaml
    from safetensors.torch import save

    directory.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    temporary = directory / f".{WEIGHTS}.tmp"
    temporary.write_bytes(save(state))
    temporary.replace(directory / WEIGHTS)
    write_atomic(directory / CONFIG, yaml.safe_dump(config, sort_keys=False))


def model_directory(path: str | Path) -> Path:
    """Where the model of a run, or of a ``model`` directory, lies.

    Raises:
        UserError: nowhere.
    """
    directory = Path(path)
    directory = directory if (directory / WEIGHTS).exists() else directory / "model"
    if not (directory / WEIGHTS).exists():
        raise UserError(f"{path} holds no model: there is no {directory / WEIGHTS}")
    return directory


def load_model(path: str | Path) -> Any:
    """The model of a run, or of a ``model`` directory, ready to be asked (see ``src/models/protocol.py``).

    Only models and their parts are built and only tensors are read, so a stranger's run can be opened.

    Raises:
        UserError: no model is there, the config names anything else, or the weights do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = model_directory(path)
    config = read_plain_config(directory / CONFIG)
    model = _built(config, directory / CONFIG)
    try:
        state = load_file(directory / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{directory / WEIGHTS} is damaged: {error}") from error
    check_state(model, state, str(directory / WEIGHTS))
    model.load_state_dict(state)
    return model.eval()


def _built(config: dict[str, Any], where: Path) -> Any:
    """The model that the config in ``where`` describes.

    Raises:
        UserError: it describes none.
    """
    import torch

    if "_target_" not in config:
        raise UserError(f"{where} describes no model: it has no _target_")
    with sound(str(where)):
        model = build(config, allowed=FOREIGN)
    if not isinstance(model, torch.nn.Module):
        raise UserError(f"{where} describes no model")
    return model


def load_energy(path: str | Path) -> Any:
    """The calibrated energy of a run, or of a ``model`` directory: a ``src.models.energy.Energy``, ready to be asked.

    Its gradient reaches the poses and not the model's weights, which stay as they are.

    Raises:
        UserError: there is no model, no calibration, or one that belongs to other weights.
    """
    return energy_of(load_model(path), path).requires_grad_(False).eval()


def energy_of(model: "nn.Module", path: str | Path) -> Any:
    """The calibrated energy of a model that ``load_model`` has opened from ``path``; the model stays as it is.

    Raises:
        UserError: as ``load_energy``.
    """
    directory = model_directory(path)
    content = _read_calibration(directory / CALIBRATION)
    if content.get("weights") != checksum(model.state_dict()):
        raise UserError(
            f"{directory / CALIBRATION} was made with other weights than those of {WEIGHTS}; make it again: "
            "python scripts/evaluate.py run=<the run> calibrate=true"
        )
    return locate("src.models.energy.Energy", FOREIGN)(model, content)


def _read_calibration(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, "calibration")
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {path}: make one with python scripts/evaluate.py run=<the run> calibrate=true"
        ) from error


def checksum(state: "Mapping[str, Tensor]") -> str:
    """What tells one model's weights from another's: of names and values, those of floats in single precision."""
    total = 0
    for name, tensor in sorted(state.items()):
        values = tensor.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        total = zlib.crc32(values.contiguous().numpy().tobytes(), zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def checkpoint_model(run: Path, config: dict[str, Any]) -> tuple[Any, Path]:
    """The model in a run's best checkpoint, else in its last one, and that file; nothing is written.

    Args:
        run: its directory.
        config: of the run's model, as its ``config.yaml`` has it.

    Raises:
        UserError: there is no checkpoint, or it does not fit the config.
    """
    folder = run / "checkpoints"
    found = next((folder / n for n in ("best.ckpt", "last.ckpt") if (folder / n).exists()), None)
    if found is None:
        raise UserError(f"{run} has neither a model nor a checkpoint")
    model = _built(portable(config), run / CONFIG)
    state = read_checkpoint(found)["state_dict"]
    check_state(model, state, str(found))
    model.load_state_dict(state)
    return model.eval(), found


def portable(model: dict[str, Any]) -> dict[str, Any]:
    """A model's config without what only training needs, so that it names nothing but models and parts."""
    training = ("optimizer", "scheduler", "lr_scaling", "compile", "pretrained")
    return {key: value for key, value in model.items() if key not in training}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, tensors and plain values only.

    Raises:
        UserError: it is missing, truncated, no checkpoint, or holds objects that would have to be executed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"ckpt_path={path} does not exist{_neighbours(path)}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"ckpt_path={path} is truncated or no checkpoint")
    content = read_plain(path, f"ckpt_path={path}")
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"ckpt_path={path} is no training checkpoint: it has no state_dict")
    return content


def read_plain(path: Path, where: str) -> Any:
    """What torch has saved in a file, tensors and plain values only.

    Raises:
        UserError: it is damaged, or holds objects that would have to be executed; ``where`` begins the sentence.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # What is no archive need not be a pickle of anything.
        damaged = "" if zipfile.is_zipfile(path) else " is damaged, or"
        raise UserError(
            f"{where}{damaged} holds more than tensors and plain values, and is not opened"
        ) from error
    except Exception as error:  # what torch stumbles over in a damaged file depends on the byte
        raise UserError(f"{where} is damaged: {str(error).splitlines()[0]}") from error


def check_state(model: "nn.Module", state: dict[str, Any], where: str) -> None:
    """Refuse weights of another architecture.

    Raises:
        UserError: naming the first tensor that does not fit.
    """
    check_tensors(model.state_dict(), state, where)


def check_tensors(expected: dict[str, Any], state: dict[str, Any], where: str) -> None:
    """Refuse tensors that are not, by name and shape, the ``expected`` ones.

    Raises:
        UserError: naming the first that does not fit.
    """
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise UserError(
                f"{where} is of another architecture: '{name}' is "
                f"{'missing there' if name in expected else 'not in this model'}"
            )
        shape = getattr(state[name], "shape", None)  # a checkpoint may hold any plain value
        if shape != expected[name].shape:
            there = "no tensor" if shape is None else list(shape)
            raise UserError(
                f"{where} is of another architecture: '{name}' is {there} there, "
                f"{list(expected[name].shape)} here"
            )


def read_plain_config(path: Path) -> dict[str, Any]:
    """A run's resolved config: plain values, empty where the file holds no mapping.

    Raises:
        UserError: it is missing, not YAML, holds interpolations, or a part of it stands in it twice.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, *UNREADABLE) as error:
        told = str(error).partition("\n")[0]
        raise UserError(f"{path} is not plain YAML: {told}") from error
    # An alias could hold itself, or stand for more than any memory holds.
    if not _is_tree(config, set()):
        raise UserError(f"{path} is refused: it holds aliases, or keys that are no names")
    # A run saves its config resolved; an interpolation could read the reader's files and variables.
    if "${" in yaml.safe_dump(config):
        raise UserError(
            f"{path} is refused: it holds interpolations, which a saved model's config never does"
        )
    return config if isinstance(config, dict) else {}


def _is_tree(value: Any, seen: set[int]) -> bool:
    """Whether plain values hold each other once, by names or numbers, as those of a saved config do."""
    if not isinstance(value, dict | list):
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, list):
        return all(_is_tree(one, seen) for one in value)
    return all(isinstance(k, str | int | float) and _is_tree(v, seen) for k, v in value.items())


def _neighbours(path: Path) -> str:
    there = sorted(file.name for file in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
    return f"; there are: {', '.join(there)}" if there else ""
