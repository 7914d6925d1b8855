"""Sums over an epoch: every sample counts once, whatever batch it came in."""

import pytest
import torch

from src.models.meters import TermWindow
from src.models.objectives import Terms
from src.utils.errors import UserError

X = torch.rand(11, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["vae", "ae"])
def test_means_do_not_depend_on_the_batches(tiny_vae, name):
    model = tiny_vae(f"model={name}").eval()

    def evaluated(*sizes: int, processes: int = 1) -> dict[str, torch.Tensor]:
        for part in X.split(list(sizes)):
            model.evaluation_step({"x": part})
        return model.sums.pop(lambda total: processes * total)

    whole = evaluated(11)
    noisy = {"loss", "recon_nll", "elbo"} if name == "vae" else set()  # each batch draws its own z
    for other, n in ((evaluated(8, 2, 1), 11), (evaluated(4, 7, processes=3), 33)):
        assert other.pop("num_samples") == n
        for key, value in other.items():
            if key not in noisy:
                torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-6, msg=key)


def test_the_metrics_are_what_their_names_say(tiny_vae):
    model = tiny_vae().eval()
    model.latent.posterior.head.weight.data[:1] *= 200  # make a unit active
    model.evaluation_step({"x": X})
    found = model.sums.pop(lambda total: total)
    error = (model.reconstruct(X) - X).abs()
    torch.testing.assert_close(found["mse"], error.square().mean())
    torch.testing.assert_close(found["psnr"], -10 * error.square().mean().log10())
    torch.testing.assert_close(found["pixel_accuracy"], (error < 0.1).float().mean())
    torch.testing.assert_close(found["energy_mean"], model.energy(X).mean())
    means = model.encode(X).mean
    assert (
        found["active_units"] == (means.var(0, correction=0) > 0.01).sum()
        and 0 < found["active_units"] < 4
    )
    assert model.sums.totals == {}


@torch.no_grad()
def elbo(tiny_vae, *overrides: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = tiny_vae(*overrides).eval()
    torch.manual_seed(1)
    model.evaluation_step({"x": X})
    return {name: float(value) for name, value in model.sums.pop(lambda total: total).items()}


@pytest.mark.parametrize(
    "objective", ["beta=7", "free_bits=3", "capacity=20", "free_bits_mode=per_sample"]
)
def test_the_elbo_is_the_same_whatever_the_loss_makes_of_its_terms(tiny_vae, objective):
    plain, other = elbo(tiny_vae), elbo(tiny_vae, f"model.objective.{objective}")
    assert other["elbo"] == pytest.approx(plain["elbo"]) == pytest.approx(-plain["loss"])
    assert objective.startswith("free_bits_mode") or other["loss"] != pytest.approx(plain["loss"])


@pytest.mark.parametrize("name", ["ae", "msssim_vae", "wae_mmd"])
def test_there_is_no_elbo_where_nothing_is_bounded(tiny_vae, name):
    try:
        model = tiny_vae(f"model={name}").eval()
        model.evaluation_step({"x": X})
    except UserError:  # such as pictures that are too small
        pytest.skip("needs other data")
    assert "elbo" not in model.sums.pop(lambda total: total)


def test_the_window_averages_the_steps_since_it_was_read():
    window = TermWindow()
    for value in (1.0, 2.0, 6.0):
        terms = Terms({"kl": torch.tensor([value, 3 * value])}, {"kl": torch.tensor(1.0)})
        window.add({"loss": terms.loss, **terms.means})
    assert window.pop() == {"loss": 6.0, "kl": 6.0}
    assert window.pop() == {}
    for value in range(250):  # more than it keeps apart
        window.add({"loss": torch.tensor(float(value)), "kl": torch.tensor(1.0)})
    assert len(window.rows) == 2 * 50 and window.pop() == {"loss": 124.5, "kl": 1.0}
    window.add({"loss": torch.tensor(5.0), "kl": torch.tensor(5.0)})
    assert window.pop() == {"loss": 5.0, "kl": 5.0}
