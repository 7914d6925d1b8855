"""The one LightningModule of every variant."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.compat import check_parts
from src.models.compilation import compiled, prepare_to_compile
from src.models.draw import Draw
from src.models.energy import Mode, energy, importance_bound
from src.models.meters import EvaluationSums, TermWindow
from src.models.networks.background import teach
from src.models.objectives import Terms
from src.models.optimizers import build_optimizers, known_rule
from src.models.paths import latent_path
from src.models.protocol import Path
from src.utils.build import build
from src.utils.seeding import isolated_rng

Config = Mapping[str, Any]


class VAE(LightningModule):
    """A variational autoencoder: parts, an objective, and how they are optimised.

    Args:
        shape: the data's shape without the batch.
        encoder, decoder, posterior, prior, likelihood, latent, objective, metric: parts, or configs of parts.
        optimizer: config of a ``torch.optim`` class; the parameters are added here.
        scheduler: ``curve``, the config of a learning-rate scheduler, and ``interval``, epoch or step; or None.
        compile: compile the training step with inductor; on a CPU that takes a C++ compiler.
        pretrained: what ``src.models.pretrained.load_pretrained`` is to copy in before a training.
        sampler: a density of z that is fitted after the training and then sampled from in the prior's place.
        lr_scaling: none, sqrt or linear: how learning rates grow with the batches that a step sees.

    References:
        Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    def __init__(
        self,
        shape: Sequence[int],
        encoder: nn.Module | Config,
        decoder: nn.Module | Config,
        posterior: nn.Module | Config,
        prior: nn.Module | Config | None,
        likelihood: nn.Module | Config,
        latent: Config,
        objective: nn.Module | Config,
        optimizer: Config | None = None,
        scheduler: Config | None = None,
        latent_dim: int | None = None,
        name: str = "vae",
        compile: bool = False,
        metric: nn.Module | Config | None = None,
        pretrained: Mapping[str, Any] | None = None,
        sampler: nn.Module | Config | None = None,
        lr_scaling: str = "none",
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        parts = {
            "encoder": encoder,
            "posterior": posterior,
            "prior": prior or None,
            "decoder": decoder,
            "likelihood": likelihood,
            "metric": metric or None,
        }
        self.latent = build(latent, **{name: build(part) for name, part in parts.items()})
        self.objective = build(objective)
        check_parts(self.latent, self.objective)
        self._lend_latent(self.objective)
        self.use_sampler(build(sampler or None))
        self.name, self.latent_dim, self.pretrained = name, latent_dim, dict(pretrained or {})
        self.optimizer_config, self.scheduler_config = dict(optimizer or {}), dict(scheduler or {})
        self.lr_scaling = known_rule(lr_scaling)
        self.window = TermWindow()
        self.sums = EvaluationSums()
        self.compiled = compile
        if compile:
            prepare_to_compile(self)

    def use_sampler(self, sampler: nn.Module | None) -> None:
        """Let a sampler, once it is fitted, draw what is decoded in the prior's place; None for the prior."""
        self.sampler: Any = sampler
        self._lend_latent(sampler)
        if sampler is not None:
            sampler.requires_grad_(False)  # it learns when the model has

    def _lend_latent(self, part: Any) -> None:
        if hasattr(part, "borrow_latent"):
            part.borrow_latent(self.latent)

    # What may be asked of a trained model (src/models/protocol.py).

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x), batch shape (B,)."""
        return self.latent.encode(x, self._known(c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z) for z (…, D)."""
        return self.latent.decode(z, self._known(c))

    def prior(self, c: Tensor | None = None) -> Distribution:
        """p(z); ``NotImplementedError`` for a deterministic autoencoder."""
        prior = self.latent.prior_over_z(self._known(c))
        if prior is None:
            raise NotImplementedError(
                "this autoencoder has no prior: its latent density must be fitted after training"
            )
        return prior

    @property
    def can_sample(self) -> bool:
        """Whether there is a prior, or a sampler that has been fitted in its place."""
        return self.latent.prior is not None if self.sampler is None else self.sampler.is_fitted

    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The likelihood's mean at the posterior's mean, (B, *shape)."""
        return self.decode(self.encode(x, c).mean, c).mean

    def sample_z(self, n: int, c: Tensor | None = None) -> Tensor:
        """n codes from the prior, or from the sampler that replaces it, (n, *of one code); c is (n,)."""
        if self.sampler is not None:
            return self.sampler.sample(n)
        prior = self.prior(c)
        return prior.sample(() if prior.batch_shape else (n,))

    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """What ``sample_z`` gives, decoded, (n, *shape)."""
        return self.decode(self.sample_z(n, c), c).mean

    def interpolate(
        self, x_a: Tensor, x_b: Tensor, steps: int, path: Path = "linear", c: Tensor | None = None
    ) -> Tensor:
        """(steps, B, *shape) pictures on the way from x_a to x_b through their posterior means."""
        z_a, z_b = self.encode(x_a, c).mean, self.encode(x_b, c).mean
        return self.decode(
            latent_path(z_a, z_b, steps, path, self.latent.metric, self.latent.prior), c
        ).mean

    def log_likelihood(self, x: Tensor, k: int, c: Tensor | None = None) -> Tensor:
        """log 1/k Σ p(x, z)/q(z | x), (B,) nats (Burda et al. 2016, arXiv:1509.00519)."""
        return importance_bound(self, x, k, c)

    def energy(self, x: Tensor, c: Tensor | None = None, mode: Mode = "mean", k: int = 1) -> Tensor:
        """Minus a bound on log p(x), (B,) nats, lower = more plausible; deterministic by default, see ``energy``."""
        return energy(self, x, mode, k, c)

    # Training.

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes forty times in a step which hook runs, and torch looks each time whether that is a parameter.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Tell the objective how many training samples there are, and the parts what they learn before a training."""
        if data := getattr(self.trainer, "datamodule", None):
            self.objective.num_train.fill_(data.num_train)
            teach(self, data, stage)

    def step(self, x: Tensor, c: Tensor | None = None) -> tuple[Draw, Terms]:
        """One draw and its terms."""
        draw = self.latent.infer(x, c, k=self.objective.num_samples)
        return draw, self.objective(draw)

    def condition_of(self, batch: dict[str, Tensor]) -> Tensor | None:
        """The column of a batch that the model is conditioned on."""
        return None if self.latent.condition_key is None else batch[self.latent.condition_key]

    def losses(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and what is reported of it: the loss and the batch mean of every term."""
        draw, terms = self.step(x, c)
        loss, reported = terms.loss, {"loss": terms.loss, **terms.means}
        if hasattr(self.objective, "critic_loss"):
            # One backward pass for both, because neither reaches the other's parameters (objectives/critics.py).
            critic_loss = self.objective.critic_loss(draw)
            loss, reported = loss + critic_loss, reported | {"critic_loss": critic_loss}
        return loss, reported

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        step = compiled(VAE.losses) if self.compiled else VAE.losses
        loss, reported = step(self, batch["x"], self.condition_of(batch))
        self.window.add(reported)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer
        if (batch_idx + 1) % trainer.log_every_n_steps and not trainer.is_last_batch:
            return
        self.window.log(trainer, self.objective, self.current_epoch)

    def evaluation_step(self, batch: dict[str, Tensor]) -> None:
        draw, terms = self.step(batch["x"], self.condition_of(batch))
        self.sums.add(self, draw, terms)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluation_step(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluation_step(batch)

    # The noise of an evaluation is always the same and leaves the training's random numbers where they were.

    def on_validation_epoch_start(self) -> None:
        self._evaluation_rng = isolated_rng(0, self.device)
        self._evaluation_rng.__enter__()

    def on_validation_epoch_end(self) -> None:
        self._evaluation_rng.__exit__(None, None, None)
        stage = "test" if self.trainer.testing else "val"
        reduced = self.sums.pop(lambda total: self.trainer.strategy.reduce(total, reduce_op="sum"))
        self.log_dict({f"{stage}/{name}": value for name, value in reduced.items()}, sync_dist=True)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Only where there is something to clip: Lightning's own takes its time to find that there is not."""
        if gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """The optimiser and scheduler that the config names."""
        return build_optimizers(self)

    def _known(self, c: Tensor | None) -> Tensor | None:
        if c is not None:
            self.latent.check_condition(c)
        return c
