"""Impossible combinations: refused before anything is trained, with the reason."""

import pytest
from torch import nn

from src.models.compat import check_parts
from src.models.data_compat import check_data
from src.models.latents import FlatLatent
from src.models.likelihoods import GaussianLikelihood
from src.models.networks import MLPDecoder, MLPEncoder
from src.models.objectives import ELBO, Reconstruction
from src.models.posteriors import DeltaPosterior, DiagonalGaussian
from src.models.priors import StandardNormal
from src.utils.errors import UserError
from src.utils.main import data_configs


class Mixture(nn.Module):
    """Stands for a posterior or prior whose dimensions are not independent."""

    factorised = False


def latent(posterior: nn.Module, prior: nn.Module | None) -> FlatLatent:
    return FlatLatent(
        MLPEncoder((4,), 8),
        posterior,
        prior,
        MLPDecoder(2, (4,), width=8),
        GaussianLikelihood((4,)),
    )


GAUSSIAN, POINT, NORMAL = DiagonalGaussian(8, 2), DeltaPosterior(8, 2), StandardNormal(2)


@pytest.mark.parametrize(
    ("posterior", "prior", "objective", "reason"),
    [
        (
            POINT,
            NORMAL,
            ELBO(),
            "needs a posterior with a density.*use model/objective=reconstruction",
        ),
        (GAUSSIAN, None, ELBO(), "needs a prior.*choose model/prior=standard_normal"),
        (POINT, NORMAL, Reconstruction(), "never looks at the prior.*choose model/prior=none"),
        (GAUSSIAN, Mixture(), ELBO(free_bits=0.1), "free bits clamp the KL of each dimension"),
        (Mixture(), NORMAL, ELBO(free_bits=0.1), "free bits clamp the KL of each dimension"),
    ],
)
def test_parts_that_clash(posterior, prior, objective, reason):
    with pytest.raises(UserError, match=reason):
        check_parts(latent(posterior, prior), objective)


@pytest.mark.parametrize(
    ("posterior", "prior", "objective"),
    [
        (GAUSSIAN, NORMAL, ELBO(free_bits=0.1)),
        (GAUSSIAN, Mixture(), ELBO()),
        (POINT, None, Reconstruction()),
        (GAUSSIAN, None, Reconstruction()),
    ],
)
def test_parts_that_fit(posterior, prior, objective):
    check_parts(latent(posterior, prior), objective)


def test_data_of_another_kind_names_the_data_that_fits(tiny_config):
    vector = {"kind": "vector", "value_range": "real"}
    for part in ("encoder", "decoder"):
        with pytest.raises(
            UserError,
            match=rf"model.{part} Conv\w+ takes image data, not 'vector'; data that fits: .*digits.*images",
        ):
            check_data(tiny_config(f"model/{part}=conv"), vector, data_configs)
    check_data(tiny_config("model/encoder=resnet", "model/decoder=resnet"), vector, data_configs)


def test_bernoulli_needs_the_unit_interval(tiny_config):
    model = tiny_config("model/likelihood=bernoulli")
    with pytest.raises(
        UserError, match=r"Bernoulli\w+ needs data in \[0, 1\]; data that fits: .*digits"
    ):
        check_data(model, {"kind": "vector", "value_range": "real"}, data_configs)
    check_data(model, {"kind": "vector", "value_range": "unit"}, data_configs)


def test_a_score_of_pictures_needs_pictures(tiny_config):
    with pytest.raises(UserError, match=r"MSSSIM\w+ takes image or sequence data, not 'vector'"):
        check_data(
            tiny_config("model=msssim_vae"), {"kind": "vector", "value_range": "unit"}, data_configs
        )


def test_a_conditional_model_needs_labels(tiny_config):
    model, data = tiny_config("model=conditional_vae"), {"kind": "image", "value_range": "unit"}
    with pytest.raises(UserError, match=r"needs labels.*data.classes"):
        check_data(model, data | {"name": "images", "classes": None}, data_configs)
    check_data(model, data | {"name": "images", "classes": 3}, data_configs)


def test_every_network_fits_some_shipped_data(compose_config):
    for data in data_configs(("image", "vector", "sequence", "transition")):
        settings = compose_config(f"data={data}", "+data.nothing=0").data
        assert {"kind", "value_range", "batch_size", "seed"} <= settings.keys()
