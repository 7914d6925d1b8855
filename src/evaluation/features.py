"""What pictures are compared by when samples are judged: features of a network that the user names."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from src.evaluation.metrics import fit_pca
from src.models.networks import ConvEncoder
from src.runs.loading import check_tensors
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

FOLDER, FILE = "features", "classifier.safetensors"
Labels = tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Extractor:
    """Pictures → features, ready to be used.

    Attributes:
        embed: (B, C, H, W) in [0, 1] → (B, F).
        facts: what ``results.json`` says of it.
    """

    embed: Callable[[Tensor], Tensor]
    facts: dict[str, Any]

    @torch.no_grad()
    def __call__(self, x: Tensor, batch_size: int = 256) -> np.ndarray:
        """Features of x (N, C, H, W), (N, F) float64."""
        parts = [self.embed(part.float()) for part in x.split(batch_size)]
        return torch.cat(parts).double().numpy()


class Features(ABC):
    """A choice of features, which need not know the data yet."""

    @abstractmethod
    def fit(self, train: Tensor, test: Tensor, labels: Labels, directory: Path) -> Extractor:
        """What is needed of the data, learned from its training pictures.

        Args:
            train, test: (N, C, H, W) in [0, 1].
            labels: (N,) of train and test, where there are any.
            directory: the run's; what was learned is kept there and found again.

        Raises:
            UserError: the data has not what these features need.
        """


@dataclass(frozen=True)
class ClassifierFeatures(Features):
    """The last hidden layer of a convolutional classifier of the data set's own labels.

    Its random numbers do not depend on the run's seed, and it learns on one thread of the CPU: two runs on the same
    data are judged by the same network, whatever they train. A process learns it once. The run keeps it as
    ``features/classifier.safetensors``, whose header holds the settings and the fingerprint of the training data.

    Args:
        features: of the layer.
        channels: of the first convolution, doubled with every halving of the picture.
        steps: of AdamW, with a learning rate that rises to ``lr`` and falls to 0.
        batch_size: training pictures a step.
        lr: the largest learning rate.
    """

    features: int = 64
    channels: int = 32
    steps: int = 500
    batch_size: int = 64
    lr: float = 3e-3

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if not value > 0:
                raise UserError(f"features.{key}={value} must be above 0")

    def fit(self, train: Tensor, test: Tensor, labels: Labels, directory: Path) -> Extractor:
        if labels is None:
            raise UserError(
                "features=classifier needs labels, and this data has none; features=pixels does without"
            )
        classes, known = labels[0].unique(return_inverse=True)
        if len(classes) < 2:
            raise UserError(
                "features=classifier needs labels that differ; features=pixels does not"
            )
        settings = asdict(self) | {"shape": list(train.shape[1:]), "classes": classes.tolist()}
        settings |= {"data": fingerprint(train, labels[0])}
        file = directory / FOLDER / FILE
        network = self._stored(file, settings)
        if network is None:
            network = _learned(json.dumps(settings), lambda: self._learn(train, known))
            _store(network, settings, file)
        answers = Extractor(network, {})(test).argmax(1)
        accuracy = float((classes.numpy()[answers] == labels[1].numpy()).mean())
        facts = {"name": "classifier", "data": settings["data"], **asdict(self)}
        facts["held_out_accuracy"] = accuracy
        return Extractor(network[0], facts)

    def _network(self, shape: list[int], classes: int) -> nn.Sequential:
        encoder = ConvEncoder(shape, self.features, self.channels, 4 * self.channels)
        return nn.Sequential(encoder, nn.Linear(self.features, classes))

    def _learn(self, x: Tensor, y: Tensor) -> nn.Sequential:
        # Lightning tests in inference mode, in which nothing can be learned.
        with torch.inference_mode(False), torch.enable_grad(), isolated_rng(0), one_thread():
            network = self._network(list(x.shape[1:]), int(y.max()) + 1)
            optimizer = torch.optim.AdamW(network.parameters(), self.lr)
            curve = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, self.steps)
            for _ in range(self.steps):
                rows = torch.randint(len(x), (self.batch_size,))
                loss = nn.functional.cross_entropy(network(x[rows].float()), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                curve.step()
        return network.eval().requires_grad_(False)

    def _stored(self, file: Path, settings: dict[str, Any]) -> nn.Sequential | None:
        """The network of an earlier test of the run, if it is of these settings and this data."""
        if not file.exists():
            return None
        try:
            with safe_open(file, "pt") as content:
                header = content.metadata() or {}
                state = {name: content.get_tensor(name) for name in content.offset_keys()}
        except SafetensorError as error:
            raise UserError(
                f"{file} is damaged: {error}; without it, it is learned anew"
            ) from error
        if header.get("settings") != json.dumps(settings):
            return None
        network = self._network(settings["shape"], len(settings["classes"]))
        check_tensors(network.state_dict(), state, str(file))
        network.load_state_dict(state)
        return network.eval().requires_grad_(False)


_CLASSIFIERS: dict[str, nn.Sequential] = {}


def _learned(key: str, learn: Callable[[], nn.Sequential]) -> nn.Sequential:
    """The classifier of these settings and this data; the runs of a multirun share it."""
    if key not in _CLASSIFIERS:
        _CLASSIFIERS[key] = learn()
    return _CLASSIFIERS[key]


def _store(network: nn.Module, settings: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(save(network.state_dict(), {"settings": json.dumps(settings)}))
    temporary.replace(file)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order inside, whatever the number of threads outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fingerprint(*tensors: Tensor) -> str:
    """SHA-256 of the values, in hexadecimal."""
    found = hashlib.sha256()
    for tensor in tensors:
        exact = tensor.float() if tensor.is_floating_point() else tensor
        found.update(np.ascontiguousarray(exact.numpy()).data)
    return found.hexdigest()


@dataclass(frozen=True)
class PixelFeatures(Features):
    """The first principal components of the training pictures, in units of their total standard deviation.

    In these units the pictures' variance adds up to at most 1, and so does the Fréchet distance of the mean picture.

    Args:
        components: how many, fewer where the data has not so many.
    """

    components: int = 64

    def __post_init__(self) -> None:
        if self.components < 1:
            raise UserError(f"features.components={self.components} must be at least 1")

    def fit(self, train: Tensor, test: Tensor, labels: Labels, directory: Path) -> Extractor:
        model = fit_pca(train, self.components)
        unit = max(float(train.flatten(1).double().var(0).sum()) ** 0.5, 1e-6)
        axes = torch.from_numpy(model.components_.T / unit).float()
        mean = torch.from_numpy(model.mean_).float()
        told = float(model.explained_variance_ratio_.sum())
        facts = {"name": "pixels", "components": model.n_components_, "explained_variance": told}
        return Extractor(lambda x: (x.flatten(1) - mean) @ axes, facts)


class FileFeatures(Features):
    """A network of the user's own in ONNX, which holds nothing but operators of that format and their weights.

    Pictures are scaled to its height and width (bilinear, with antialiasing), grey ones repeated over its channels;
    whatever else it needs, such as another range than [0, 1], belongs into the file.

    Args:
        path: with one input (N, C, H, W) and one output (N, …), N free or fixed.

    Raises:
        UserError: there is no such file, it is no such network, or onnxruntime is not installed.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is None or not Path(path).is_file():
            raise UserError(f"features=file needs features.path=<an .onnx file>, not {path}")
        try:
            import onnxruntime
            from onnxruntime.capi.onnxruntime_pybind11_state import (
                Fail,
                InvalidGraph,
                InvalidProtobuf,
            )
        except ModuleNotFoundError as error:
            raise UserError(
                "features=file needs the extra 'export': pip install -c constraints.txt -e .[export]"
            ) from error
        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except (Fail, InvalidGraph, InvalidProtobuf) as error:
            raise UserError(f"features.path={path} is no ONNX network: {error}") from error
        taken = [node.shape for node in self.session.get_inputs()]
        if len(taken) != 1 or len(taken[0]) != 4:
            raise UserError(f"features.path={path} takes {taken}; it must take one (N, C, H, W)")
        self.shape = [side if isinstance(side, int) else None for side in taken[0]]

    def fit(self, train: Tensor, test: Tensor, labels: Labels, directory: Path) -> Extractor:
        if train.shape[1] not in (1, self.shape[1] or train.shape[1]):
            raise UserError(
                f"features.path={self.path} takes {self.shape[1]} channels, and this data has {train.shape[1]}"
            )
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Extractor(self._embed, {"name": "file", "path": self.path, "sha256": digest})

    def _embed(self, x: Tensor) -> Tensor:
        batch, channels, height, width = self.shape
        x = x.expand(-1, channels or x.shape[1], -1, -1)
        size = (height or x.shape[2], width or x.shape[3])
        if size != tuple(x.shape[2:]):
            x = nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
        name = self.session.get_inputs()[0].name
        parts = [
            torch.from_numpy(self.session.run(None, {name: part.contiguous().numpy()})[0])
            for part in x.split(batch or len(x))
        ]
        return torch.cat(parts).flatten(1)
