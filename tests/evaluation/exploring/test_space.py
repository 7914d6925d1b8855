"""A latent space to move in: its points are the encoder's and the prior's, and what is shown is what is decoded."""

import pytest
import torch

from src.evaluation.exploring.codes import Codes, parsed
from src.evaluation.exploring.space import reach
from src.utils.errors import UserError
from tests.evaluation.spaces import ROWS, space_of

SEQUENCE = "data.shape=[4,3,8,8]"
IMAGES = (
    "vae",
    "ladder_vae",
    "vq_vae",
    "gumbel_vae",
    "poincare_vae",
    "hyperspherical_vae",
    "rae_l2",
)


@pytest.mark.parametrize("name", IMAGES)
def test_codes_are_posterior_means_and_pictures_their_likelihood_means(model_of, name):
    space = space_of(model_of(f"model={name}"))
    model, codes = space.opened.model, space.codes(ROWS)
    x = space.opened.data.rows("test", codes.rows)
    torch.testing.assert_close(codes.z, model.encode(x).mean)
    torch.testing.assert_close(space.code_of(5), codes.z[5])
    assert space.dim == codes.z.shape[1]
    decoded = space.decode(codes.z.view(3, 4, -1))
    torch.testing.assert_close(decoded.flatten(0, 1), model.decode(codes.z).mean)
    assert torch.equal(codes.labels, torch.arange(ROWS) % 4) and codes.factors.shape == (ROWS, 2)


def test_dimensions_are_sorted_by_what_they_say():
    z = torch.tensor([[0.0, 1.0, 5.0], [0.0, -1.0, -5.0]])
    codes = Codes(z, None, torch.arange(2), None, None)
    assert codes.order == [2, 1, 0] and codes.unit == "variance"
    codes = Codes(z, torch.tensor([0.2, 3.0, 1.0]), torch.arange(2), None, None)
    assert codes.order == [1, 2, 0] and codes.unit == "nats"
    assert codes.told(1) == "z 1<br>3 nats"


def test_a_conditional_model_encodes_with_the_label_and_decodes_with_the_class_that_is_chosen(
    model_of,
):
    space = space_of(model_of("model=conditional_vae"))
    model, x = space.opened.model, space.opened.data.rows("test", torch.tensor([3]))
    given, other, unknown = (torch.tensor([c]) for c in (3, 1, -1))
    torch.testing.assert_close(space.code_of(3), model.encode(x, given).mean[0])
    torch.testing.assert_close(space.codes(ROWS).z[3], model.encode(x, given).mean[0])
    z = space.code_of(3)[None]
    for label, c in ((3, given), (1, other), (None, unknown)):
        torch.testing.assert_close(space.decode(z, label), model.decode(z, c).mean)
    assert not torch.equal(space.decode(z, 3), space.decode(z, 1))
    assert space.classes == 10 and space.prior_moments() is None


@pytest.mark.parametrize("name", ["riemannian_flow", "vanilla_sequence", "gp_vae"])
def test_of_a_sequence_one_frame_is_shown(model_of, name):
    model = model_of(f"model={name}", SEQUENCE)
    for frame in (0, 2):
        space = space_of(model, frame)
        codes, x = space.codes(ROWS), space.opened.data.floats("test")
        whole = model.decode(model.encode(x).mean).mean
        torch.testing.assert_close(space.decode(codes.z), whole[:, frame])
        assert torch.equal(space.sample(1)[0], x[1, frame]) and space.frames == 4
        assert codes.z.shape == (ROWS, 4) and codes.information.shape == (4,)
        assert space.draws(3, 0).shape == (3, 4) == space.posterior_draws(codes.rows[:3], 0).shape


def test_draws_are_the_same_for_a_seed_and_leave_the_random_state_alone(model_of):
    space = space_of(model_of("model=vae"))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = space.draws(4, 7)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, space.draws(4, 7)) and not torch.equal(first, space.draws(4, 8))
    rows = torch.arange(4)
    assert torch.equal(space.posterior_draws(rows, 1), space.posterior_draws(rows, 1))
    assert not torch.equal(space.posterior_draws(rows, 1), space.posterior_draws(rows, 2))


def test_the_prior_has_a_mean_where_that_is_a_point_of_the_space(model_of):
    assert torch.equal(space_of(model_of("model=vae")).prior_mean(), torch.zeros(4))
    for name, said in (("rae_l2", "no prior"), ("hyperspherical_vae", "sphere")):
        with pytest.raises(UserError, match=said):
            space_of(model_of(f"model={name}")).prior_mean()
    flow = space_of(model_of("model=riemannian_flow", SEQUENCE))
    with pytest.raises(UserError, match="not closed"):
        flow.prior_mean()
    with pytest.raises(UserError, match="no prior"):
        space_of(model_of("model=rae_l2", "sampler@model.sampler=none")).draws(1, 0)


def test_moments_of_the_prior_are_those_of_its_draws_and_only_of_a_gaussian(model_of):
    space = space_of(model_of("model=vae"))
    drawn = space.draws(4000, 0)
    torch.testing.assert_close(
        space.prior_moments(), torch.stack([drawn.mean(0), drawn.std(0)]), atol=0.06, rtol=0
    )
    assert space_of(model_of("model=poincare_vae")).prior_moments() is None


def test_what_is_set_elsewhere_is_brought_into_the_space(model_of):
    z = torch.tensor([[3.0, 0.0, 4.0, 0.0]])
    sphere = space_of(model_of("model=hyperspherical_vae"))
    torch.testing.assert_close(sphere.project(z), z / 5)
    ball = space_of(model_of("model=poincare_vae"))
    assert float(ball.project(z).norm()) < 1 and ball.decode(ball.project(z)).isfinite().all()
    codes = space_of(model_of("model=vq_vae"))
    entries = codes.latent.posterior.codebooks[0]
    tokens = codes.project(z).view(-1, entries.shape[1])
    assert (tokens[:, None] == entries).all(-1).any(1).all()
    assert torch.equal(space_of(model_of("model=vae")).project(z), z)


def test_what_is_special_of_a_space_is_said(model_of):
    def notes(*overrides: str) -> str:
        return " ".join(space_of(model_of(*overrides)).notes)

    assert notes("model=vae") == ""
    assert "curvature -1" in notes("model=poincare_vae")
    assert "nearest code" in notes("model=vq_vae")
    assert "lowest level" in notes("model=ladder_vae")
    assert "follow from it" in notes("model=riemannian_flow", SEQUENCE)
    assert "Every frame" in notes("model=vanilla_sequence", SEQUENCE)


def test_the_range_is_the_priors_or_the_codes(model_of):
    vae, ball = (space_of(model_of(f"model={name}")) for name in ("vae", "poincare_vae"))
    z = torch.full((ROWS, 4), 0.5)
    codes = Codes(z, None, torch.arange(ROWS), None, None)
    assert reach(vae, codes) == 3.0
    assert reach(ball, codes) == pytest.approx(0.6)


def test_a_typed_z_is_read_or_refused_in_a_sentence():
    assert torch.equal(parsed("0.5, -1e-1;2  [3]", 4), torch.tensor([0.5, -0.1, 2.0, 3.0]))
    for text, said in (("1 2", "2 were given"), ("1 2 x", "this is none"), ("1 2 nan", "finite")):
        with pytest.raises(UserError, match=said):
            parsed(text, 3)


def test_a_row_that_is_not_there_is_refused(model_of):
    space = space_of(model_of("model=vae"))
    for row in (-1, ROWS):
        for asked in (space.code_of, space.sample):
            with pytest.raises(UserError, match=f"0 to {ROWS - 1}"):
                asked(row)


def test_codes_that_are_no_numbers_are_told(tiny_vae):
    model = tiny_vae("model=vae")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="NaN or infinite"):
        space_of(model).codes(ROWS)
