"""What pictures are compared by."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from src.datamodules import DigitsDataModule
from src.evaluation import features
from src.evaluation.features import ClassifierFeatures, FileFeatures, PixelFeatures
from src.experiment.evaluation import features_of
from src.utils.build import build
from src.utils.errors import UserError

FILE = "features/classifier.safetensors"
QUICK = ClassifierFeatures(features=16, channels=8, steps=60, lr=0.01)


@pytest.fixture(autouse=True)
def nothing_learned_yet(monkeypatch):
    monkeypatch.setattr(features, "_CLASSIFIERS", {})


@pytest.fixture(scope="module")
def digits():
    data = DigitsDataModule(name="digits", shape=[1, 8, 8], kind="image")
    data.setup()
    x = [data.floats(split) for split in ("train", "test")]
    return *x, tuple(data.labels(split) for split in ("train", "test"))


def test_the_default_classifier_is_worth_having(compose_config, digits, tmp_path):
    extractor = build(compose_config().features).fit(*digits, tmp_path)
    assert extractor.facts["held_out_accuracy"] > 0.97
    found = extractor(digits[1])
    assert found.shape == (len(digits[1]), 64) and found.dtype == np.float64
    assert np.allclose(extractor(digits[1][:7], batch_size=3), found[:7], atol=1e-5)


def test_every_run_on_the_same_data_learns_the_same(digits, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    for seed, name in ((1, "a"), (2, "b")):
        monkeypatch.setattr(features, "_CLASSIFIERS", {})  # another process
        torch.manual_seed(seed)
        torch.set_num_threads(seed)
        state = torch.get_rng_state()
        QUICK.fit(*digits, tmp_path / name)
        assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == seed
    torch.set_num_threads(threads)
    a, b = (load_file(tmp_path / name / FILE) for name in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_it_learns_where_lightning_tests(digits, tmp_path):
    with torch.inference_mode():
        train, test = (part.clone() for part in digits[:2])
        labels = tuple(part.clone() for part in digits[2])
        found = QUICK.fit(train, test, labels, tmp_path)(test)
    assert np.array_equal(found, QUICK.fit(*digits, tmp_path / "other")(digits[1]))


def test_a_process_learns_it_once(digits, tmp_path, monkeypatch):
    first = QUICK.fit(*digits, tmp_path / "a")(digits[1])
    monkeypatch.setattr(ClassifierFeatures, "_learn", None)
    assert np.array_equal(QUICK.fit(*digits, tmp_path / "b")(digits[1]), first)
    assert (tmp_path / "b" / FILE).exists()


def test_a_later_test_of_the_run_takes_the_stored_one(digits, tmp_path, monkeypatch):
    before = QUICK.fit(*digits, tmp_path)
    monkeypatch.setattr(features, "_CLASSIFIERS", {})
    monkeypatch.setattr(ClassifierFeatures, "_learn", None)
    after = QUICK.fit(*digits, tmp_path)
    assert after.facts == before.facts
    assert np.array_equal(after(digits[1]), before(digits[1]))


@pytest.mark.parametrize("change", ["data", "settings"])
def test_the_stored_one_of_something_else_is_learned_anew(digits, tmp_path, change):
    train, test, labels = digits
    before = QUICK.fit(train, test, labels, tmp_path)
    if change == "data":
        after = QUICK.fit(1 - train, test, labels, tmp_path)
        assert after.facts["data"] != before.facts["data"]
    else:
        after = ClassifierFeatures(features=16, channels=8, steps=61, lr=0.01).fit(
            *digits, tmp_path
        )
    assert not np.array_equal(after(test), before(test))


def test_a_damaged_store_is_told(digits, tmp_path):
    QUICK.fit(*digits, tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        QUICK.fit(*digits, tmp_path)


def test_labels_may_be_any_numbers_and_must_be_there_and_differ(digits, tmp_path):
    train, test, labels = digits
    shifted = tuple(5 * part - 7 for part in labels)
    one, other = (QUICK.fit(train, test, y, tmp_path) for y in (labels, shifted))
    assert one.facts["held_out_accuracy"] == other.facts["held_out_accuracy"] > 0.3
    for bad in (None, tuple(torch.zeros_like(part) for part in labels)):
        with pytest.raises(UserError, match="features=pixels"):
            QUICK.fit(train, test, bad, tmp_path)


def test_pixels_are_principal_components_of_unit_variance(digits, tmp_path):
    train, test, _ = digits
    extractor = PixelFeatures(components=64).fit(train, test, None, tmp_path)
    found = extractor(train)
    assert found.var(0).sum() == pytest.approx(1, abs=1e-3)
    covariance = np.cov(found.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-5
    # All components: a rotation, and distances are those of the pixels.
    pixels = test.flatten(1).double()
    ratio = float(torch.pdist(pixels)[0]) / np.linalg.norm(np.diff(extractor(test)[:2], axis=0))
    assert ratio == pytest.approx(float(train.flatten(1).double().var(0).sum()) ** 0.5, 1e-4)
    assert extractor.facts["explained_variance"] == pytest.approx(1)
    few = PixelFeatures(components=3).fit(train, test, None, tmp_path)
    assert few(test).shape[1] == 3 and few.facts["explained_variance"] < 0.5


class Sums(nn.Module):
    """Three sums of a picture's channels."""

    def forward(self, x):
        return x.mean((2, 3), keepdim=True) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("onnx") / "sums.onnx"
    example = (torch.rand(4, 3, 16, 16),)
    free = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        Sums().eval(), example, str(path), dynamo=True, dynamic_shapes=free, verbose=False
    )
    return path


def test_a_file_gets_the_size_and_channels_it_takes(onnx_file, tmp_path, digits):
    extractor = FileFeatures(str(onnx_file)).fit(digits[0], digits[1], None, tmp_path)
    found = extractor(digits[1])
    # Scaling 8×8 to 16×16 keeps the mean but for the border.
    mean = digits[1].mean((1, 2, 3)).numpy()
    assert np.allclose(found, mean[:, None] * [1, 2, 3], atol=0.02)
    assert np.allclose(found[:, 2], 3 * found[:, 0], atol=1e-5)
    assert re.fullmatch("[0-9a-f]{64}", extractor.facts["sha256"])
    exact = extractor(torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    drawn = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert np.allclose(exact, drawn.mean((2, 3)).numpy() * [1, 2, 3], atol=1e-5)


def test_a_file_that_does_not_fit_is_told(onnx_file, tmp_path):
    with pytest.raises(UserError, match="takes 3 channels, and this data has 2"):
        FileFeatures(str(onnx_file)).fit(torch.rand(4, 2, 8, 8), torch.rand(4, 2, 8, 8), None, None)
    for path in (None, str(tmp_path / "none.onnx")):
        with pytest.raises(UserError, match="features=file needs"):
            FileFeatures(path)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UserError, match="no ONNX network"):
        FileFeatures(str(tmp_path / "text.onnx"))


@pytest.mark.parametrize("key", ["features", "channels", "steps", "batch_size", "lr"])
def test_settings_are_checked(key):
    with pytest.raises(UserError, match=f"features.{key}=0"):
        ClassifierFeatures(**{key: 0})


def test_every_choice_composes(compose_config):
    assert isinstance(build(compose_config("features=pixels").features), PixelFeatures)
    assert compose_config("features=none").features is None
    with pytest.raises(UserError, match="features=file needs"):
        build(compose_config("features=file").features)


def test_a_strangers_run_opens_no_file_and_builds_nothing_else(onnx_file, caplog):
    target = "src.evaluation.features."
    assert features_of({"_target_": f"{target}PixelFeatures", "components": 5}).components == 5
    assert features_of(None) is None
    file = {"_target_": f"{target}FileFeatures", "path": str(onnx_file)}
    assert features_of(file) is None and "features=file" in caplog.text
    for refused in ("os.system", "src.callbacks.figures.Figures", f"{target}fingerprint"):
        with pytest.raises(UserError, match="refused"):
            features_of({"_target_": refused})
    # A file is not opened one level further down either.
    with pytest.raises(UserError, match="not described by plain values"):
        features_of({"_target_": f"{target}ClassifierFeatures", "features": file})
