"""What the sliders of the latent explorer give: z, and pictures of it."""

import base64
import copy
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from src.datamodules.hand_anatomy import BONES
from src.evaluation import pose_drawings
from src.evaluation.codes import encoded
from src.evaluation.exploring.dimensions import dimensions
from src.evaluation.exploring.exploration import answer, decode, draw, modes, of_sample
from src.evaluation.exploring.inline_pictures import METRE, hands, inline
from src.evaluation.exploring.sliders import Sliders
from src.evaluation.opened import OpenedRun
from src.models.posteriors import CodedPosterior
from src.utils.errors import UserError
from src.utils.pictures import pixels

Open = Callable[..., OpenedRun]
SEQUENCES = ["data.characters.train=2", "data.characters.val=1", "data.characters.test=2"]


@pytest.fixture(scope="module")
def opened(tiny_vae: Callable[..., Any], compose_config: Callable[..., Any]) -> Open:
    """``opened("model=vae", …)`` → a run that has not been trained, with its data."""
    kept: dict[tuple[str, ...], OpenedRun] = {}
    digits = compose_config().data

    def one(*overrides: str) -> OpenedRun:
        if overrides not in kept:
            chosen = compose_config(*overrides).data if SEQUENCES[0] in overrides else digits
            data = OmegaConf.to_container(chosen, resolve=True)
            torch.manual_seed(0)
            model = tiny_vae(*overrides).eval()
            kept[overrides] = OpenedRun(Path("run"), model, Path("weights"), {"data": data})
        return kept[overrides]

    return one


def moved(count: int, **values: Any) -> Sliders:
    """Sliders with a μ and a σ of their own in every dimension."""
    mu, sigma = (
        tuple(np.random.default_rng(i).uniform(low, 1, count).tolist())
        for i, low in enumerate((-1, 0))
    )
    return replace(Sliders.start(count), **{"mu": mu, "sigma": sigma, **values})


def test_a_draw_is_mu_and_sigma_times_the_noise_of_the_seed(opened: Open) -> None:
    model, sliders = opened("model=vae").model, moved(4, seed=3)
    noise = torch.from_numpy(sliders.noise()).float()
    expected = torch.tensor(sliders.mu) + torch.tensor(sliders.sigma) * noise
    assert torch.equal(draw(model, sliders, (4,)), expected)
    assert torch.equal(draw(model, replace(sliders, mode="standard"), (4,)), noise)
    exactly = draw(model, replace(sliders, sigma=(0.0,) * 4), (4,))
    assert torch.equal(exactly, torch.tensor(sliders.mu))
    given = replace(sliders, mode="exact", z=(9.0, -1.0, 0.0, 0.5))
    assert draw(model, given, (4,)).tolist() == [9.0, -1.0, 0.0, 0.5]


def test_the_picture_is_the_mean_that_the_model_decodes(opened: Open) -> None:
    run = opened("model=vae")
    found = answer(run, (4,), moved(4))
    assert torch.equal(found.x, run.model.decode(found.z[None]).mean[0].detach())
    other = answer(run, (4,), replace(moved(4), mu=(1.0, -1.0, 2.0, 0.0)))
    assert not torch.equal(found.x, other.x)


def test_dimensions_are_in_the_order_of_their_kl(opened: Open) -> None:
    run = opened("model=vae")
    found = dimensions(run)
    with torch.no_grad():
        kl = encoded(run.model, run.held_out(500)[0])[2]
    assert kl is not None
    assert list(found.order) == kl.argsort(descending=True).tolist()
    assert torch.allclose(torch.tensor(found.information), kl)
    assert found.unit == "nats"
    assert found.names == ("z 0", "z 1", "z 2", "z 3")


def test_without_its_data_a_model_can_still_be_moved(opened: Open) -> None:
    run = replace(opened("model=vae"), config={"data": {"_target_": "os.system"}})
    found = dimensions(run)
    assert list(found.order) == [0, 1, 2, 3]
    assert not found.information
    assert "own order" in found.told[0]
    assert answer(run, found.shape, Sliders.start(4)).x.shape == (1, 8, 8)


def test_a_diverged_model_is_told_as_such(opened: Open) -> None:
    run = opened("model=vae")
    diverged = replace(run, model=copy.deepcopy(run.model))
    for weight in diverged.model.parameters():
        weight.data.fill_(torch.nan)
    found = dimensions(diverged)
    assert "diverged" in found.told[0]
    assert not found.information
    with pytest.raises(UserError, match="not finite"):
        answer(diverged, found.shape, Sliders.start(4))


@pytest.mark.parametrize(
    "variant",
    [
        *(
            "conditional_vae",
            "ae",
            "ladder_vae",
            "nvae_small",
            "hyperspherical_vae",
            "iaf_vae",
            "hvae",
        ),
        *("poincare_vae", "product_vae", "vq_vae", "gmm_vae", "vamp"),
    ],
)
def test_the_code_of_a_sample_decodes_to_its_reconstruction(opened: Open, variant: str) -> None:
    run = opened(f"model={variant}", *(["model.latent_dim=8"] if variant == "product_vae" else []))
    found = dimensions(run)
    sample = of_sample(run, 5, Sliders.start(found.count))
    at = replace(sample.sliders, sigma=(0.0,) * found.count)
    with torch.no_grad():
        c = None if run.model.latent.condition_key is None else torch.tensor([sample.label])
        expected = run.model.reconstruct(sample.x[None], c)[0]
    for sliders in (at, replace(at, mode="exact")):
        assert torch.allclose(answer(run, found.shape, sliders).x, expected, atol=1e-5)
    for mode in modes(run.model):
        z = draw(run.model, replace(at, mode=mode), found.shape)
        assert z.shape == found.shape
        assert bool(z.isfinite().all())


def test_a_z_on_a_sphere_has_length_one(opened: Open) -> None:
    model = opened("model=hyperspherical_vae").model
    for mode in ("normal", "standard", "prior", "exact"):
        z = draw(model, replace(moved(4), mode=mode, z=(5.0, 0.0, 0.0, 5.0)), (4,))
        assert float(z.norm()) == pytest.approx(1)


def test_a_z_of_a_ball_is_the_image_of_a_tangent_vector_and_lies_in_the_ball(opened: Open) -> None:
    posterior = opened("model=poincare_vae").model.latent.posterior
    sliders = moved(4, sigma=(0.0,) * 4)
    z = draw(opened("model=poincare_vae").model, sliders, (4,))
    assert torch.allclose(posterior.ball.log0(z), torch.tensor(sliders.mu), atol=1e-5)
    outside = replace(sliders, mode="exact", z=(5.0, 5.0, 0.0, 0.0))
    assert float(draw(opened("model=poincare_vae").model, outside, (4,)).norm()) < 1


@pytest.mark.parametrize("variant", ["vq_vae", "rq_vae", "fsq_vae", "lfq_vae", "gumbel_vae"])
def test_a_z_of_codes_is_a_code(opened: Open, variant: str) -> None:
    run = opened(f"model={variant}", "model.latent_dim=8")
    posterior: CodedPosterior = run.model.latent.posterior
    codes = torch.randint(posterior.codebook_size, (20, *posterior.code_shape))
    for z in posterior.embed(codes).detach():
        # What is a code stays what it is, and what is close to one becomes it.
        near = z + 1e-4 * torch.randn_like(z)
        given = replace(Sliders.start(8), mode="exact", z=tuple(near.tolist()))
        assert torch.allclose(draw(run.model, given, (8,)), z, atol=1e-6)


def test_the_nearest_code_is_nearest(opened: Open) -> None:
    run = opened("model=vq_vae", "model.latent_dim=8")
    book = run.model.latent.posterior.codebooks[0]
    given = torch.randn(8)
    found = draw(run.model, replace(Sliders.start(8), mode="exact", z=tuple(given.tolist())), (8,))
    for token, rounded in zip(given.view(-1, 4), found.view(-1, 4), strict=True):
        distances = (book - token).norm(dim=1)
        assert torch.equal(rounded, book[distances.argmin()])


def test_the_class_is_told_to_the_decoder(opened: Open) -> None:
    run = opened("model=conditional_vae")
    pictures = [answer(run, (4,), replace(moved(4), label=label)).x for label in (-1, 0, 1)]
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[1], pictures[2])
    with pytest.raises(UserError, match="label"):
        answer(run, (4,), replace(moved(4), label=10))


def test_a_prior_is_drawn_from_by_the_seed_and_disturbs_nobody(opened: Open) -> None:
    run = opened("model=gmm_vae")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (
        draw(run.model, replace(Sliders.start(4), mode="prior", seed=seed), (4,))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.rand(3), expected)
    with pytest.raises(UserError, match="no prior"):
        draw(opened("model=ae").model, replace(Sliders.start(4), mode="prior"), (4,))


def test_every_frame_and_every_level_has_names_of_its_own(opened: Open) -> None:
    ladder = dimensions(opened("model=ladder_vae"))
    assert ladder.names[0] == "z 0, level 2"
    assert ladder.names[-1] == f"z {ladder.count - 1}, level 1"
    assert ladder.unit == "latent²"
    lowest = [name.endswith("level 1") for name in ladder.names]
    assert lowest == sorted(lowest)
    assert any(f"only, the last {sum(lowest)} numbers of z" in note for note in ladder.told)
    run = opened("model=vanilla_sequence", *SEQUENCES)
    frames = dimensions(run)
    assert frames.shape == (8, 4)
    assert frames.names[5] == "z 1, frame 1"
    # z 1 of frame 1 changes that frame and no other.
    still, changed = (
        answer(run, frames.shape, replace(Sliders.start(32), mode="exact", z=z)).x
        for z in ((0.0,) * 32, tuple(3.0 * (i == 5) for i in range(32)))
    )
    assert ((still - changed).abs().flatten(1).amax(1) > 0).tolist() == [t == 1 for t in range(8)]


def test_a_missing_sample_and_a_broken_decoder_are_told(opened: Open) -> None:
    run = opened("model=vae")
    with pytest.raises(UserError, match="held-out samples 0 to"):
        of_sample(run, 10**6, Sliders.start(4))
    with pytest.raises(UserError, match="not finite"):
        decode(run.model, torch.full((4,), torch.nan))


def test_pictures_are_whole_numbers_and_nothing_is_lost() -> None:
    grey = torch.tensor([[[0.0, 0.5], [1.0, 1.5]]])
    assert pixels(grey.numpy()).tolist() == [[0, 128], [255, 255]]
    colour = torch.rand(3, 4, 5)
    assert pixels(colour.numpy()).shape == (4, 5, 3)
    assert pixels(torch.rand(2, 4, 5).numpy()).shape == (4, 10)


def test_frames_lie_side_by_side(opened: Open) -> None:
    x = torch.rand(8, 3, 6, 5)
    shown = inline(opened("model=vanilla_sequence", *SEQUENCES), x)
    assert (shown.frames, shown.width, shown.height) == (8, 5, 6)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.uri.partition(",")[2]))))
    assert np.array_equal(found[:, 10:15], pixels(x[2].numpy()))


def test_hands_are_drawn_where_their_joints_are() -> None:
    pose = 0.3 * torch.randn(30, 3)
    points = pose_drawings.seen(pose_drawings.positions(pose[None].double().numpy()))[0]
    lines = re.findall(r'x1="(\S+)" y1="(\S+)" x2="(\S+)" y2="(\S+)"', hands(pose))
    assert len(lines) == 2 * len(BONES)
    found = np.array(lines, float).reshape(2, len(BONES), 2, 2)
    across, up = pose_drawings.ACROSS[0], pose_drawings.ALONG[1]
    expected = (points[:, np.array(BONES)] - [across, up]) * [METRE, -METRE]
    assert np.allclose(found, expected, atol=0.051)
