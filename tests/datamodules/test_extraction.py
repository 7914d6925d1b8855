"""Closed loops are taken out of the original sprites."""

import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from src.datamodules import CyclicSpritesDataModule, sprites
from src.datamodules.extraction import comparison, extract_cyclic
from src.datamodules.sprite_files import sprite_file
from src.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def everything(first: int, count: int) -> np.ndarray:
    """All actions from all sides, as the original sets store them: (9·count, 8, 3, 64, 64) uint8."""
    chosen = sprites.all_characters(7)[first : first + count]
    shown = [(action, side) for action in sprites.ACTIONS for side in sprites.DIRECTIONS]
    return np.concatenate([sprites.render(chosen, action, side) for action, side in shown])


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """Both files in the original form: float32 256ths, channels last, in a dict."""
    folder = tmp_path_factory.mktemp("originals")
    for split, x in (("train", everything(0, 3)), ("test", everything(3, 2))):
        data = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 1, 3, 4, 2))).float() / 256
        torch.save({"data": data}, folder / f"Sprites_{split}.pt")
    return folder


def test_the_strokes_and_nothing_else_are_taken(originals, tmp_path):
    found = extract_cyclic(originals / "Sprites_train.pt", "train", tmp_path)
    assert (found.everything.count, found.everything.cyclic, found.kept.count) == (27, 9, 9)
    x = torch.load(tmp_path / "Sprites_train_cyclic.pt", weights_only=True)
    assert x.dtype == torch.float32 and x.shape == (9, 8, 3, 64, 64)
    assert torch.equal(x * 256, torch.from_numpy(everything(0, 3)[18:]).float())
    facts = torch.load(tmp_path / "Sprites_train_metadata.pt", weights_only=True)
    assert facts["original_indices"].tolist() == list(range(18, 27))
    assert facts["mse_values"].tolist() == [0] * 9 and facts["similarity_threshold"] == 1e-4
    assert facts["original_data_shape"] == [27, 8, 3, 64, 64]
    assert facts["cyclic_data_shape"] == [9, 8, 3, 64, 64]
    assert facts["extraction_stats"] == {
        "total_original": 27,
        "total_cyclic": 9,
        "cyclic_percentage": pytest.approx(100 / 3),
    }
    with Image.open(tmp_path / "Sprites_train_examples.png") as picture:
        assert picture.height > picture.width > 300
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        file.name for file in found.files
    )


def test_a_looser_threshold_takes_more(originals, tmp_path):
    found = extract_cyclic(originals / "Sprites_test.pt", "test", tmp_path, 0.5, max_examples=0)
    assert found.kept.count == 18 and len(found.files) == 2
    facts = torch.load(tmp_path / "Sprites_test_metadata.pt", weights_only=True)
    assert (facts["mse_values"] > 1e-4).sum() == 12 and facts["mse_values"].max() < 0.5


def test_values_up_to_255_are_scaled(tmp_path):
    torch.save(torch.from_numpy(everything(0, 1)), tmp_path / "bytes.pt")
    torch.save(torch.from_numpy(everything(0, 1)).float(), tmp_path / "floats.pt")
    for name in ("bytes", "floats"):
        extract_cyclic(tmp_path / f"{name}.pt", name, tmp_path, max_examples=0)
        x = torch.load(tmp_path / f"Sprites_{name}_cyclic.pt", weights_only=True)
        assert torch.equal(x, torch.from_numpy(everything(0, 1)[6:]).float() / 255)


def test_what_is_written_replaces_what_was_there_at_once(originals, tmp_path, monkeypatch):
    source = originals / "Sprites_test.pt"
    extract_cyclic(source, "test", tmp_path, max_examples=0)
    before = (tmp_path / "Sprites_test_cyclic.pt").read_bytes()

    def full(content, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        extract_cyclic(source, "test", tmp_path, max_examples=0)
    assert (tmp_path / "Sprites_test_cyclic.pt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_the_splits_stand_beside_each_other(originals, tmp_path):
    found = {
        split: extract_cyclic(sprite_file(originals, split), split, tmp_path, max_examples=0)
        for split in ("train", "test")
    }
    console = Console(width=100, file=StringIO())
    console.print(comparison(found))
    lines = console.file.getvalue().splitlines()
    cells = {line.split("│")[1].strip(): line.split("│")[2:4] for line in lines if "│" in line}
    assert [cell.strip() for cell in cells["sequences"]] == ["27", "18"]
    assert [cell.strip() for cell in cells["closed loops"]] == ["9", "6"]
    assert [cell.strip() for cell in cells["share"]] == ["33.3%", "33.3%"]
    assert [cell.strip() for cell in cells["largest of the loops"]] == ["0.00e+00"] * 2


def test_a_set_without_loops_is_refused(tmp_path):
    torch.save(torch.rand(4, 8, 3, 16, 16), tmp_path / "x.pt")
    with pytest.raises(
        UserError,
        match=r"x.pt: none of 4 sequences has a first–last MSE below threshold=0.0001; the smallest is 0.1",
    ):
        extract_cyclic(tmp_path / "x.pt", "train", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"threshold": -1.0}, {"max_examples": -1}])
def test_numbers_below_zero_are_refused(originals, tmp_path, wrong):
    with pytest.raises(UserError, match="threshold=.* and max_examples=.* must be at least 0"):
        extract_cyclic(originals / "Sprites_train.pt", "train", tmp_path, **wrong)


def test_the_script_writes_what_the_data_module_reads(originals, tmp_path):
    command = [sys.executable, "scripts/extract_cyclic.py", "max_examples=2"]
    command += [f"{split}_path={originals}/Sprites_{split}.pt" for split in ("train", "test")]
    done = subprocess.run(
        [*command, f"output_dir={tmp_path}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Sprites_") == 6 and "Closed loops" in done.stdout
    data = CyclicSpritesDataModule(
        path=str(tmp_path),
        characters={"train": 2, "val": 1, "test": 2},
        exact=True,
        name="cyclic_sprites",
        shape=[8, 3, 64, 64],
        kind="sequence",
        batch_size=2,
    )
    data.setup()
    assert data.divisor == 256 and len(data.splits["test"]["x"]) == 6
    expected = everything(0, 3)[18:].reshape(3, 3, 8, 3, 64, 64)[:, 2]
    np.testing.assert_array_equal(data.splits["val"]["x"].numpy(), expected)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="x.pt does not exist$"):
        extract_cyclic(tmp_path / "x.pt", "train", tmp_path)
