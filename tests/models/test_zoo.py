"""Every variant of conf/model learns, answers and is kept; every pair of parts trains or is refused with its reason."""

from collections.abc import Callable
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from src.datamodules import DigitsDataModule
from src.models.compat import RULES
from src.models.latents import LongitudinalLatent
from src.runs.loading import load_model, save_model
from src.utils.build import build
from src.utils.errors import UserError
from tests.conftest import SMALL

MODEL = Path(__file__).parents[2] / "conf" / "model"
MODELS = sorted(file.stem for file in MODEL.glob("*.yaml"))
# Their data are frames with a background; what the networks learn from it has its tests in test_background.py.
BACKGROUND_MODELS = ("atari_vae", "atari_vae_reference")
# Their data are rotation vectors; the densities of the last three are of the pose itself.
POSE_MODELS = ("hand_standard", "hand_so3", "gaussian_pose", "mixture_pose", "flow_pose")
SEQUENCE_MODELS = ("gp_vae", "hybrid", "lvae_iaf", "riemannian_flow", "vanilla_sequence")
GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in MODEL.iterdir()
    if folder.is_dir()
}
# Parts that take poses, or only each other; what they do has its own tests.
OF_POSES = ("exact", "rotations", "standardise", "standardised_gaussian")
NETWORKS = sorted({*GROUPS["encoder"]} & {*GROUPS["decoder"]} - {*OF_POSES})
# Likelihoods of which the first parameter is a picture.
LOCATED = ("discretised_logistic", "gaussian", "laplace", "student_t")
TRAINING_ONLY = ("optimizer", "scheduler", "compile", "pretrained")
STEPS, LEARNING_RATE = 20, 3e-3
# What goes with a posterior that does not live in R^D, and what small latents take.
PARTNER = {
    "power_spherical": "hyperspherical_uniform",
    "poincare": "poincare",
    "product": "product",
    "gumbel": "uniform_categorical",
    **dict.fromkeys(("vq", "rq", "fsq", "residual_fsq", "lfq"), "uniform_codes"),
}


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """(256, 1, 8, 8) in [0, 1] and (256,)."""
    data = DigitsDataModule(name="digits", shape=[1, 8, 8], kind="image")
    data.setup()
    labels = data.labels("train")
    assert labels is not None
    return data.floats("train", 256), labels[:256]


@pytest.fixture(scope="module")
def pair_vae(compose_config) -> Callable[..., Any]:
    """What ``tiny_vae`` gives, from options that are each composed once: Hydra takes longer than a training step."""
    known: dict[tuple[str, ...], Any] = {}

    def composed(*overrides: str) -> Any:
        if overrides not in known:
            known[overrides] = compose_config(*overrides)
        return deepcopy(known[overrides])

    def built(*overrides: str) -> Any:
        groups = [o for o in overrides if o.startswith("model/")]
        settings = [o for o in overrides if o.startswith("model.")]
        base = tuple(o for o in overrides if o not in groups and o not in settings)
        cfg = composed(*base)
        for choice in groups:
            group = choice.removeprefix("model/").partition("=")[0]
            node = composed(*(() if "sequence" in str(base) else base), choice).model.get(group)
            cfg.model[group] = None if node is None else OmegaConf.to_container(node)
        for setting in ["model.latent_dim=4", *settings]:
            key, _, value = setting.partition("=")
            OmegaConf.update(cfg, key, int(value))
        for part in (cfg.model.encoder, cfg.model.decoder):
            part.update({key: value for key, value in SMALL.items() if key in part})
        return build(OmegaConf.to_container(cfg.model, resolve=True))

    return built


def of_sequences(name: str) -> bool:
    """Whether a model chooses sequences by itself."""
    return name in SEQUENCE_MODELS


def own_shape(name: str) -> list[str]:
    """The shape of the digits, for models that choose other data by themselves."""
    if of_sequences(name):
        return ["data.shape=[3,1,8,8]"]
    if name in POSE_MODELS[2:]:
        return ["model.latent_dim=90"]
    return ["data.shape=[1,8,8]"] if name in BACKGROUND_MODELS else []


def condition(model: Any, labels: Tensor) -> Tensor | None:
    return model.condition_of({"label": labels})


def check(model: Any, labels: Tensor | None = None) -> None:
    """One step and one evaluation: finite loss, a finite gradient on every parameter, finite metrics."""
    batch = {"x": torch.rand(6, *model.shape), "label": torch.arange(6)}
    c = condition(model, batch["label"])
    for _ in range(2 if isinstance(model.latent, LongitudinalLatent) else 1):  # two frames j
        loss, _ = model.losses(batch["x"], c)
        loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # a sampler learns later
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    model.eval()
    model.evaluation_step(batch)
    metrics = model.sums.pop(lambda total: total)
    of_pictures = {"psnr", "pixel_accuracy"} if len(model.shape) in (3, 4) else set()
    assert {"loss", "recon_nll", "mse", "active_units"} | of_pictures <= metrics.keys()
    assert of_pictures or not {"psnr", "pixel_accuracy"} & metrics.keys()
    assert all(torch.isfinite(value) for value in metrics.values())


def own_loss(model: Any, objective: nn.Module, x: Tensor, c: Tensor | None) -> float:
    """A model's loss by an objective, with the same noise every time."""
    torch.manual_seed(5)
    return float(objective(model.latent.infer(x, c, k=objective.num_samples)).loss.detach())


def train(model: Any, x: Tensor, c: Tensor | None) -> None:
    optimizer = model.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    for step in range(STEPS):
        rows = torch.arange(64) + 64 * (step % (len(x) // 64))
        loss, _ = model.losses(x[rows], None if c is None else c[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def answers(model: Any, x: Tensor, c: Tensor | None) -> dict[str, Tensor]:
    """What every call of the protocol answers, but for those that the model refuses with a reason."""
    n, shape = len(x), tuple(x.shape[1:])
    mean = model.encode(x, c).mean
    found = {"encode": mean, "decode": model.decode(mean, c).mean}
    assert len(mean) == n and found["decode"].shape == x.shape
    found["reconstruct"] = model.reconstruct(x, c)
    torch.testing.assert_close(found["reconstruct"], found["decode"])
    found["interpolate"] = model.interpolate(x, x.flip(0), 5, c=c)
    assert found["interpolate"].shape == (5, n, *shape)
    if model.can_sample:
        torch.manual_seed(2)
        found["sample"] = model.sample(3, None if c is None else c[:3])
        assert found["sample"].shape == (3, *shape)
    calls = {"energy": lambda: model.energy(x, c)}
    calls["log_likelihood"] = lambda: model.log_likelihood(x, 3, c)
    for name, call in calls.items():
        torch.manual_seed(2)
        score = name == "log_likelihood" and model.latent.likelihood.pseudo
        if model.latent.has_bound and not score:
            found[name] = call()
            assert found[name].shape == (n,)
        else:
            with pytest.raises(
                NotImplementedError, match="deterministic|no prior|point mass|score"
            ):
                call()
    assert all(torch.isfinite(value).all() for value in found.values())
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_variant_learns_answers_is_kept_and_survives_bf16(tiny_config, digits, tmp_path, name):
    config = tiny_config(f"model={name}", *own_shape(name))
    model = build(config)
    x, labels = digits
    x = x[:255].view(85, 3, 1, 8, 8).repeat(3, 1, 1, 1, 1) if of_sequences(name) else x
    x = torch.randn(256, 30, 3) * torch.rand(30, 3) if name in POSE_MODELS else x
    c = condition(model, labels)
    few, few_c = x[:6], None if c is None else c[:6]
    check(deepcopy(model))

    before = deepcopy(model)
    if model.latent.metric is not None and hasattr(model.latent.metric, "of_batch"):
        model.train()
    train(model, x, c)
    # Not at the start, where residual blocks are the identity.
    model.zero_grad()
    model.losses(x[:64], None if c is None else c[:64])[0].backward()
    for part, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.any(), part
    # Against one and the same critic, where the objective has one.
    assert own_loss(model, model.objective, few, few_c) < own_loss(
        before, model.objective, few, few_c
    )

    model.eval()
    if model.latent.metric is not None:
        points = model.latent.point(x[:60])
        model.latent.refresh_metric(points, model.latent.encode_point(points).mean.detach())
    with torch.no_grad():
        if model.sampler is not None:
            if hasattr(model.sampler, "epochs"):
                model.sampler.epochs = 1
            model.sampler.fit(model.encode(x).mean, x)
        expected = answers(model, few, few_c)
    portable = {key: value for key, value in config.items() if key not in TRAINING_ONLY}
    save_model(model, portable, tmp_path / "model")
    again = load_model(tmp_path)
    with torch.no_grad():
        found = answers(again, few, few_c)
    assert found.keys() == expected.keys()
    for call, value in expected.items():
        assert torch.equal(found[call], value), call

    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = before.losses(few, few_c)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in before.parameters())


@pytest.mark.parametrize(
    ("name", "network"), [*product(["vae", "vamp", "vanilla_sequence", "rhvae"], NETWORKS)]
)
def test_models_train_with_every_network(tiny_vae, name, network):
    overrides = ["data.shape=[3,1,8,8]"] if of_sequences(name) else []
    model = tiny_vae(
        f"model={name}", f"model/encoder={network}", f"model/decoder={network}", *overrides
    )
    check(model)
    # The network that was asked for is the one that is used.
    kind = type(model.latent.encoder).__name__.lower()
    assert kind == f"{network}encoder"
    assert type(model.latent.decoder).__name__.lower() == f"{network}decoder"


@pytest.mark.parametrize(
    ("likelihood", "decoder"),
    [
        pair
        for pair in product(GROUPS["likelihood"], GROUPS["decoder"])
        if not {*pair} & {*OF_POSES}
    ],
)
def test_every_likelihood_trains_with_every_decoder_or_is_refused(tiny_vae, likelihood, decoder):
    overrides = [
        f"model/likelihood={likelihood}",
        f"model/decoder={decoder}",
        "data.shape=[3,9,12]",
    ]
    allowed = trains_or_is_refused(tiny_vae, overrides)
    assert allowed == (decoder != "background" or likelihood in LOCATED)


@pytest.mark.parametrize(
    "name", sorted({*MODELS} - {"msssim_vae", *BACKGROUND_MODELS, *POSE_MODELS})
)
def test_every_other_model_takes_vectors(tiny_vae, name):
    shape = ["data.shape=[4,10]"] if of_sequences(name) else ["data.shape=[90]", "data.kind=vector"]
    check(tiny_vae(f"model={name}", *shape))


def trains_or_is_refused(pair_vae: Any, overrides: list[str]) -> bool:
    """Build and check; whether the combination is allowed. A refusal must have one of the table's reasons."""
    try:
        model = pair_vae(*overrides)
    except UserError as refused:
        assert str(refused) in [rule.reason for rule in RULES]
        return False
    if model.objective.needs_prior or not [*getattr(model.latent.prior, "parameters", list)()]:
        check(model)
    else:  # nothing in this loss looks at the prior's parameters
        assert torch.isfinite(model.losses(torch.rand(6, *model.shape))[0])
    return True


def parts(posterior: str, prior: str) -> list[str]:
    """Overrides for a pair, small, with a metric where one of them needs it."""
    return [
        f"model/posterior={posterior}",
        f"model/prior={prior}",
        *(["model/metric=fitted"] if "riemannian" in (posterior, prior) else []),
        "model.latent_dim=8",
        *(["model.prior.components=5"] if prior in ("vamp", "mixture") else []),
    ]


# One of a kind, where all of them are the same to what they stand beside.
LIKE_OTHERS = ("rq", "fsq", "radial", "nsf", "ar1", "poincare", "product", "mixture")
# Of the densities of x itself, which have test_densities.py.
OF_DENSITIES = ("point", "gaussian_mixture", "identity")
POSTERIORS = [name for name in GROUPS["posterior"] if name not in (*LIKE_OTHERS[:4], *OF_DENSITIES)]
PRIORS = [name for name in GROUPS["prior"] if name not in (*LIKE_OTHERS[3:], *OF_DENSITIES)]
LATENTS = [name for name in GROUPS["latent"] if name not in OF_DENSITIES]
EUCLIDEAN = ("diagonal_gaussian", "iaf", "nsf", "planar", "radial", "riemannian")
R_D = ("standard_normal", "mixture", "gaussian_mixture", "vamp", "flow", "nsf", "ar1", "riemannian")


@pytest.mark.parametrize("prior", GROUPS["prior"])
@pytest.mark.parametrize("posterior", GROUPS["posterior"])
def test_posterior_and_prior_combine_or_are_refused(pair_vae, posterior, prior):
    allowed = trains_or_is_refused(pair_vae, parts(posterior, prior))
    if prior in ("gaussian_process", "conditional_normal", "none") or posterior in (
        "delta",
        "point",
    ):
        assert not allowed
    elif posterior in EUCLIDEAN:
        no_density = posterior in ("planar", "radial") and prior == "vamp"
        assert allowed == (prior in R_D and not no_density)
    else:
        of_posteriors = prior == "vamp" and posterior in ("power_spherical", "poincare", "product")
        assert allowed == (prior == PARTNER[posterior] or of_posteriors)


WEIGHABLE = {*POSTERIORS} - {"delta", "gumbel"}
TAKES = {
    "iwae": WEIGHABLE,
    "piwae": WEIGHABLE,
    "mim": WEIGHABLE,
    "dreg": {"diagonal_gaussian", "riemannian", "power_spherical", "poincare", "product"},
    "total_correlation": {"diagonal_gaussian"},
    **dict.fromkeys(("elbo", "vae_gan"), {*POSTERIORS}),
}


@pytest.mark.parametrize("objective", GROUPS["objective"])
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_posterior_and_objective_combine_or_are_refused(pair_vae, posterior, objective):
    point = posterior == "delta" and objective in ("reconstruction", "rae")
    prior = "none" if point else PARTNER.get(posterior, "standard_normal")
    allowed = trains_or_is_refused(
        pair_vae, [*parts(posterior, prior), f"model/objective={objective}"]
    )
    if posterior == "diagonal_gaussian" or objective == "elbo":
        assert allowed == (posterior != "delta")
    if posterior == "delta":
        assert allowed == (objective in ("reconstruction", "rae", "adversarial", "mmd"))
    elif objective in TAKES:
        assert allowed == (posterior in TAKES[objective])


@pytest.mark.parametrize("objective", GROUPS["objective"])
@pytest.mark.parametrize("prior", PRIORS)
def test_prior_and_objective_combine_or_are_refused(pair_vae, prior, objective):
    allowed = trains_or_is_refused(
        pair_vae, [*parts("diagonal_gaussian", prior), f"model/objective={objective}"]
    )
    if prior == "none":
        assert allowed == (objective in ("reconstruction", "rae"))
    elif objective == "elbo":
        assert allowed == (prior in R_D)


def test_a_metric_is_asked_for_by_those_that_need_one(tiny_vae):
    for part in ("model/posterior=riemannian", "model/prior=riemannian"):
        with pytest.raises(UserError, match="needs a latent metric"):
            tiny_vae(part)


@pytest.mark.parametrize(
    ("optimizer", "scheduler"), [*product(GROUPS["optimizer"], GROUPS["scheduler"])]
)
def test_every_optimiser_and_scheduler_takes_a_step(tiny_vae, optimizer, scheduler):
    model = tiny_vae(f"model/optimizer={optimizer}", f"model/scheduler={scheduler}")
    found = model.configure_optimizers()
    built = found["optimizer"] if isinstance(found, dict) else found
    before = [parameter.clone() for parameter in model.parameters()]
    model.step(torch.rand(6, 1, 8, 8))[1].loss.backward()
    built.step()
    assert all((old != new).any() for old, new in zip(before, model.parameters(), strict=True))
    assert isinstance(found, dict) == (scheduler != "none")


LATENT_PAIRS = [
    *(
        (latent, posterior, None)
        for latent, posterior in product(LATENTS, POSTERIORS)
        if (latent, posterior) != ("conditional", "product")  # its factors take features each
    ),
    *product(LATENTS, ["diagonal_gaussian"], PRIORS),
]


@pytest.mark.parametrize(("latent", "posterior", "prior"), LATENT_PAIRS)
def test_every_latent_trains_with_posteriors_and_priors_or_refuses(
    pair_vae, latent, posterior, prior
):
    prior = prior or PARTNER.get(posterior, "standard_normal")
    sequence = latent in ("sequence", "longitudinal", "frames")
    base = "conditional_vae" if latent == "conditional" else "vae"
    overrides = [
        *(["model=vanilla_sequence", "data.shape=[3,1,8,8]"] if sequence else [f"model={base}"]),
        f"model/latent={latent}",
        *parts(posterior, prior),
        "model.objective.num_samples=3",
    ]
    allowed = trains_or_is_refused(pair_vae, overrides)
    coupled = (prior == "gaussian_process" and latent != "frames") or (
        prior == "conditional_normal" and latent != "conditional"
    )
    if posterior == "delta" or prior == "none" or coupled:
        assert not allowed
    elif posterior == "diagonal_gaussian" and prior in ("standard_normal", "mixture", "flow"):
        assert allowed
