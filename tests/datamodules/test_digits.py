"""scikit-learn's digits, and what every in-memory datamodule does."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from src.datamodules import DigitsDataModule
from src.datamodules.base import ArrayDataModule
from src.utils.build import build
from src.utils.errors import UserError


@pytest.fixture(scope="module")
def digits(compose_config):
    data = build(compose_config("data=digits").data)
    data.setup()
    return data


def test_the_splits_are_the_real_digits_once(digits):
    assert (
        isinstance(digits, DigitsDataModule)
        and digits.shape == (1, 8, 8)
        and digits.kind == "image"
    )
    everything = np.concatenate(
        [digits.splits[split]["x"].numpy() for split in ("train", "val", "test")]
    )
    real = load_digits()
    assert everything.dtype == np.uint8 and everything.max() == 16 and len(everything) == 1797

    def sorted_rows(x: np.ndarray) -> np.ndarray:
        return np.array(sorted(map(tuple, x.reshape(len(x), -1))))

    # The same multiset of pictures: the splits are disjoint and leave none out.
    np.testing.assert_array_equal(sorted_rows(everything), sorted_rows(real.images))
    sizes = [len(digits.splits[split]["x"]) for split in ("train", "val", "test")]
    assert np.allclose(np.array(sizes) / 1797, [0.7, 0.1, 0.2], atol=1e-3)


def test_labels_stay_with_their_pictures(digits):
    known = {
        image.astype(np.uint8).tobytes(): target
        for image, target in zip(load_digits().images, load_digits().target, strict=True)
    }
    for split in ("train", "val", "test"):
        found = digits.splits[split]
        assert all(
            known[x.numpy().tobytes()] == label
            for x, label in zip(found["x"], found["label"].tolist(), strict=True)
        )
        assert digits.labels(split).dtype == torch.int64


def test_the_model_sees_floats_in_the_unit_interval(digits):
    batch = next(iter(digits.train_dataloader()))
    assert batch["x"].dtype == torch.uint8  # uint8 on the bus
    x = digits.on_after_batch_transfer(batch, 0)["x"]
    assert x.dtype == torch.float32 and x.shape == (128, 1, 8, 8) and x.min() == 0 and x.max() == 1
    torch.testing.assert_close(digits.floats("train", 5), digits.splits["train"]["x"][:5] / 16)


def test_the_run_seed_orders_the_training_and_leaves_the_test_alone(compose_config):
    made = [build(compose_config(f"seed={seed}").data) for seed in (0, 1)]
    for data in made:
        data.setup()
    assert torch.equal(made[0].splits["test"]["x"], made[1].splits["test"]["x"])
    first = [next(iter(data.train_dataloader()))["x"] for data in made]
    assert not torch.equal(*first)
    other = build(compose_config("data.split_seed=1").data)
    other.setup()
    assert not torch.equal(made[0].splits["test"]["x"], other.splits["test"]["x"])


@pytest.mark.parametrize("split", [[0.7, 0.1, 0.1], [0.9, 0.1], [1.0, 0.0, 0.0], [1.2, -0.1, -0.1]])
def test_fractions_must_make_a_whole(compose_config, split):
    with pytest.raises(UserError, match="three positive fractions that add up to 1, such as"):
        build(compose_config(f"data.split={split}").data).setup()


def test_a_batch_cannot_be_larger_than_the_data(compose_config):
    with pytest.raises(
        UserError,
        match="data.batch_size=1300 is larger than the 1258 training samples of digits; use at most 1258",
    ):
        build(compose_config("data.batch_size=1300").data).setup()
    build(compose_config("data.batch_size=1258").data).setup()


class Given(ArrayDataModule):
    """Serves what the test gives it."""

    def __init__(self, x: np.ndarray, shape: tuple[int, ...]) -> None:
        super().__init__("given", shape, "vector", "real", batch_size=2)
        self.x = x

    def load(self):
        return {split: {"x": self.x} for split in ("train", "val", "test")}


@pytest.mark.parametrize(
    ("x", "shape", "message"),
    [
        (
            np.array([[0, 1], [2, np.nan], [3, 4]], np.float32),
            (2,),
            "given: sample 1 of the train split has NaN or infinite values",
        ),
        (
            np.array([[0, 1], [2, 3], [-np.inf, 4]], np.float32),
            (2,),
            "given: sample 2 of the train split has NaN",
        ),
        (
            np.zeros((4, 3), np.float32),
            (2,),
            r"given: data.shape is \[2\] but the train samples are \[3\]",
        ),
        (np.zeros((0, 2), np.float32), (2,), "given: the train split is empty"),
    ],
)
def test_bad_arrays_are_refused(x, shape, message):
    with pytest.raises(UserError, match=message):
        Given(x, shape).setup()


def test_real_valued_data_passes_unchanged():
    x = np.array([[-3.5, 1], [2, 70], [0, 4]], np.float32)
    data = Given(x, (2,))
    data.setup()
    np.testing.assert_array_equal(data.floats("train"), x)
    assert data.labels("train") is None
