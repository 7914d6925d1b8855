"""How fast a training step of our variants is against Pythae's own models, as ratios measured in one process.

``ROWS`` is for scripts/benchmark.py. Both sides have the same encoder, decoder and critic, take the same batches and
learn with Adam: ours as our configs say, Pythae's as its trainers do. A third side has the encoder and the decoder
alone, on as many samples, without a loss: what is left of a step where everything else costs nothing.

Seconds are the process's own, of its one thread: other programs on the machine do not count.
"""

import importlib.util
import itertools
import math
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median, quantiles
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import CONF, register_resolvers
from src.utils.memory import keep_freed_memory

SHAPE, BATCH, BATCHES = (1, 28, 28), 128, 16
CHUNK = 0.08  # seconds of steps that are timed together
ROUNDS = 15

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """A variant that both have.

    Attributes:
        ours: name of the config.
        theirs: class in ``pythae.models``.
        alike: what is set to the same on both sides, or is not the same, for the reader.
        settings: of theirs.
        overrides: of ours.
        target: least ratio of their time to ours.
    """

    ours: str
    theirs: str
    alike: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    target: float = 1.0


SAMPLES = {"number_gradient_estimates": 4, "number_samples": 4}
VAMP = ("model.prior.components=50",)
FLOWS = "8 layers, ours amortised"
MADE = {"n_made_blocks": 3, "n_hidden_in_made": 2, "hidden_size": 128}
CODES = {"num_embeddings": 64, "use_ema": True, "decay": 0.9}
ROWS = (
    Row("ae", "AE"),
    Row("vae", "VAE"),
    Row("beta_vae", "BetaVAE", "β 4", {"beta": 4.0}),
    Row("disentangled_beta_vae", "DisentangledBetaVAE", "γ 10, C 25", {"beta": 10.0, "C": 25.0}),
    Row("beta_tc_vae", "BetaTCVAE", "α 1, β 6, γ 1", {"beta": 6.0}),
    Row("factor_vae", "FactorVAE", "critic 3 × 256; theirs decodes half the batch", {"gamma": 6.0}),
    Row("info_vae", "INFOVAE_MMD", "7 kernels", {"alpha": 0.5}),
    Row("wae_mmd", "WAE_MMD", "7 kernels"),
    Row("aae", "Adversarial_AE", "critic 3 × 256", {"deterministic_posterior": True}),
    Row("vae_gan", "VAEGAN", "critic 2 × 512", {"reconstruction_layer": 1}),
    Row("iwae", "IWAE", "K 8", {"number_samples": 8}, target=2.0),
    Row("miwae", "MIWAE", "M 4, K 4", SAMPLES, target=2.0),
    Row("piwae", "PIWAE", "M 4, K 4", SAMPLES, target=2.0),
    Row("ciwae", "CIWAE", "K 8", {"number_samples": 8, "beta": 0.5}, target=2.0),
    Row("vamp", "VAMP", "50 components", {"number_components": 50}, VAMP),
    Row("planar_vae", "VAE_LinNF", FLOWS, {"flows": ["Planar"] * 8}, target=2.0),
    Row("radial_vae", "VAE_LinNF", FLOWS, {"flows": ["Radial"] * 8}, target=2.0),
    Row("iaf_vae", "VAE_IAF", "3 blocks of 2 × 128, ours amortised", MADE, target=2.0),
    Row("hyperspherical_vae", "SVAE", "ours power spherical, theirs von Mises–Fisher"),
    Row("poincare_vae", "PoincareVAE", "wrapped", {"posterior_distribution": "wrapped_normal"}),
    Row("vq_vae", "VQVAE", "64 entries, 8 tokens of 4, moving averages", CODES),
    Row("rq_vae", "HRQVAE"),
    Row("rae_l2", "RAE_L2"),
    Row("rae_gp", "RAE_GP", "ours of the decoder, theirs of encoder and decoder"),
    Row("hvae", "HVAE", "3 leapfrog steps; theirs not differentiated", {"n_lf": 3}),
    Row("rhvae", "RHVAE", "3 leapfrog steps, metric 400", {"n_lf": 3}),
    Row("msssim_vae", "MSSSIM_VAE", "ours with an absolute error"),
)


def rivals() -> Any:
    """The module with Pythae's side.

    Raises:
        UserError: Pythae is not installed.
    """
    if importlib.util.find_spec("pythae") is None:
        raise UserError(
            "the zoo is compared with Pythae, which is not installed: "
            "pip install -c constraints.txt -e .[pythae]"
        )
    import pythae_rivals

    return pythae_rivals


def pictures() -> Tensor:
    """(N, *SHAPE) in [0, 1] made by sixteen factors: of pure noise a VAE learns nothing, and denormals are slow."""
    mixing = torch.randn(16, math.prod(SHAPE)) / 4
    return (torch.randn(BATCH * BATCHES, 16) @ mixing).sigmoid().view(-1, *SHAPE)


def our_model(row: Row) -> Any:
    """The variant from its config, on data of ``SHAPE``."""
    register_resolvers()
    shape = f"data.shape=[{','.join(map(str, SHAPE))}]"
    with initialize_config_dir(str(CONF)):
        config = compose("config", [f"model={row.ours}", shape, *row.overrides]).model
    model = build(config, compile=False)
    model.objective.num_train.fill_(BATCH * BATCHES)
    return model


def our_step(model: Any) -> Step:
    """A step as Lightning takes it, without Lightning."""
    optimizer = model.configure_optimizers()
    model.train()

    def step(x: Tensor) -> Tensor:
        loss, _ = model.losses(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def their_step(row: Row, model: Any, x: Tensor) -> Step:
    """A step of Pythae's model with the networks that ours has."""
    critic = getattr(model.objective, "critic", None)
    bodies = model.latent.encoder, model.latent.decoder, critic and critic.body
    module = rivals()
    rival = module.build_model(row.theirs, row.settings, SHAPE, model.latent_dim, deepcopy(bodies))
    return module.build_step(row.theirs, rival, x)


def bare_step(model: Any) -> Step:
    """Encoder, decoder and fused Adam, with a gradient that costs nothing."""
    encoder, decoder = deepcopy(model.latent.encoder), deepcopy(model.latent.decoder)
    networks = nn.Sequential(encoder, nn.Linear(encoder.out_features, model.latent_dim))
    optimizer = torch.optim.Adam([*networks.parameters(), *decoder.parameters()], fused=True)

    def step(x: Tensor) -> Tensor:
        y = decoder(networks(x).repeat(model.objective.num_samples, 1))
        optimizer.zero_grad()
        y.backward(torch.ones_like(y))
        optimizer.step()
        return y.detach().mean()

    return step


class Chunks:
    """As many steps after one another as fill ``CHUNK``, on batches that come round.

    Attributes:
        steps: how many.
        loss: the last.
        spent: seconds a step, one value for every ``time``.
    """

    def __init__(self, step: Step, x: Tensor) -> None:
        # A copy: one of Pythae's models asks for gradients of its batch.
        self.step, self.batches = step, itertools.cycle(x.clone().split(BATCH))
        self.steps, self.spent = 1, list[float]()
        for _ in range(2):  # the first one allocates the optimiser's state
            self.time()
        self.steps = max(1, round(CHUNK / self.spent[-1]))
        self.spent.clear()

    def time(self) -> None:
        """Take the steps."""
        begin = time.process_time()
        for _ in range(self.steps):
            self.loss = self.step(next(self.batches))
        self.spent.append((time.process_time() - begin) / self.steps)


def measure(row: Row) -> list[Chunks]:
    """Their side, ours, and encoder and decoder alone, timed in turns."""
    torch.manual_seed(0)
    x = pictures()
    model = our_model(row)
    steps = their_step(row, model, x), bare_step(model), our_step(model)
    theirs, bare, ours = (Chunks(step, x) for step in steps)
    for _ in range(ROUNDS):
        for side in (theirs, ours, bare):
            side.time()
    return [theirs, ours, bare]


HEADER = [
    "ours",
    "Pythae's",
    "alike, or not",
    "Pythae's, ms",
    "ours, ms",
    "networks alone, ms",
    "ratio",
    "half of the pairs",
    "target",
]


def cells(row: Row) -> list[str]:
    """A row of the table; where Pythae has no such model or it fails, it says so."""
    module = rivals()
    named = [row.ours, row.theirs]
    if not hasattr(module.models, row.theirs):
        return [*named, f"not in Pythae {version('pythae')}", *[""] * (len(HEADER) - 3)]
    try:
        theirs, ours, bare = measure(row)
    except module.ModelError as error:  # what its trainers make of any error in a model
        return [*named, f"fails: {str(error).splitlines()[-1]}", *[""] * (len(HEADER) - 3)]
    alike = row.alike if theirs.loss.isfinite() else f"{row.alike}; its loss is {theirs.loss:.0f}"
    times = [median(side.spent) for side in (theirs, ours, bare)]
    ratio = times[0] / times[1]
    low, _, high = quantiles([a / b for a, b in zip(theirs.spent, ours.spent, strict=True)], n=4)
    met = "" if ratio >= row.target else ", missed"
    return [
        *named,
        alike,
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        f"{ratio:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"≥ {row.target:g}{met}",
    ]


def table() -> tuple[list[str], list[list[str]]]:
    """A training step of every variant that Pythae has too, over ours."""
    keep_freed_memory()  # as our training does; Pythae's side gains by it too
    rows = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pythae")
        for row in ROWS:
            rows.append(cells(row))
            print(*rows[-1], sep=" | ", flush=True)
    return HEADER, rows
