"""Pythae's models and trainers around the networks that ours have; needs the extra ``pythae``.

A step is what Pythae does by itself for a batch: the model's ``forward`` with its losses, then the optimisers' part of
the trainer that its documentation names for the model. What a trainer adds around it (batches from a loader,
``loss.item()``, progress bars, copies of the best model) is left out.
"""

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from pythae import models, trainers
from pythae.customexception import ModelError as ModelError  # for who uses this module
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from torch import Tensor, nn

LEARNING_RATE = 1e-3
# The trainer that Pythae's TrainingPipeline demands; BaseTrainer for every other model.
TRAINERS = {
    "Adversarial_AE": "AdversarialTrainer",
    "FactorVAE": "AdversarialTrainer",
    "PIWAE": "CoupledOptimizerTrainer",
    "RAE_L2": "CoupledOptimizerTrainer",
    "VAEGAN": "CoupledOptimizerAdversarialTrainer",
}
DETERMINISTIC = ("AE", "WAE_MMD", "RAE_L2", "RAE_GP")


class Encoder(BaseEncoder):
    """One linear head on ``body``, its numbers given out under the names that a model asks for."""

    def __init__(self, body: Any, heads: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.body, self.heads = body, heads
        self.sizes = [torch.Size(shape).numel() for shape in heads.values()]
        self.head = nn.Linear(body.out_features, sum(self.sizes))

    def forward(self, x: Tensor) -> ModelOutput:
        parts = self.head(self.body(x)).split(self.sizes, -1)
        named = zip(self.heads.items(), parts, strict=True)
        return ModelOutput(**{name: part.unflatten(1, shape) for (name, shape), part in named})


class Decoder(BaseDecoder):
    """``body`` as it is, or with a sigmoid on top where the loss takes intensities only."""

    def __init__(self, body: nn.Module, sigmoid: bool) -> None:
        super().__init__()
        self.body, self.sigmoid = body, sigmoid

    def forward(self, z: Tensor) -> ModelOutput:
        x = self.body(z.flatten(1)).squeeze(1)
        return ModelOutput(reconstruction=x.sigmoid() if self.sigmoid else x)


class Discriminator(BaseDiscriminator):
    """``body`` and one output, a probability; layer 1 is what ``body`` gives, layer 2 all."""

    depth = 2

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(body.out_features, 1)

    def forward(self, value: Tensor, output_layer_levels: list[int] | None = None) -> ModelOutput:
        features = self.body(value)
        if output_layer_levels == [1]:
            return ModelOutput(embedding_layer_1=features)
        return ModelOutput(embedding=self.head(features).sigmoid())


class PairOfLogits(BaseDiscriminator):
    """``body`` and the two outputs of FactorVAE."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(body, nn.Linear(body.out_features, 2))

    def forward(self, value: Tensor) -> Tensor:
        return self.layers(value)


def heads_of(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    """What a model asks of its encoder, and in which shape."""
    if name in DETERMINISTIC:
        return {"embedding": (dim,)}
    if name == "VQVAE":
        return {"embedding": (4, dim // 4, 1)}  # its quantiser takes maps: tokens of 4 dimensions
    if name == "SVAE":
        return {"embedding": (dim,), "log_concentration": (1,)}
    return {"embedding": (dim,), "log_covariance": (dim,)}


def build_model(
    name: str,
    settings: dict[str, Any],
    shape: tuple[int, ...],
    dim: int,
    bodies: tuple[nn.Module, nn.Module, nn.Module | None],
) -> Any:
    """A model of ``pythae.models`` around an encoder's, a decoder's and a critic's body."""
    kind = getattr(models, name)
    config = getattr(models, f"{name}Config", None) or getattr(models, f"{name}_Config")
    encoder, decoder, critic = bodies
    networks: dict[str, Any] = {
        "encoder": Encoder(encoder, heads_of(name, dim)),
        "decoder": Decoder(decoder, sigmoid=name == "MSSSIM_VAE"),
    }
    if critic is not None and name != "FactorVAE":
        networks["discriminator"] = Discriminator(critic)
    model = kind(config(input_dim=shape, latent_dim=dim, **settings), **networks)
    if name == "FactorVAE":
        model.set_discriminator(PairOfLogits(critic))
    return model


def build_step(name: str, model: Any, x: Tensor) -> Callable[[Tensor], Tensor]:
    """One training step of a model on a batch, which answers its loss; ``x`` is the training data."""
    for logger in (name for name in logging.root.manager.loggerDict if name.startswith("pythae")):
        logging.getLogger(logger).setLevel(logging.WARNING)
    kind = TRAINERS.get(name, "BaseTrainer")
    config = getattr(trainers, f"{kind}Config")
    names = [field.name for field in dataclasses.fields(config)]
    rates = {name: LEARNING_RATE for name in names if name.endswith("learning_rate")}
    with tempfile.TemporaryDirectory() as folder:
        settings = config(output_dir=folder, no_cuda=True, keep_best_on_train=True, **rates)
        dataset = BaseDataset(x, torch.zeros(len(x)))
        trainer = getattr(trainers, kind)(model, dataset, training_config=settings)
        trainer.prepare_training()
    model.train()

    def step(batch: Tensor) -> Tensor:
        inputs = DatasetOutput(data=batch)
        output = model(inputs, epoch=1, dataset_size=len(x), uses_ddp=False)
        trainer._optimizers_step(output)
        return output.loss.detach()

    return step
