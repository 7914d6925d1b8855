"""The page that asks a model about samples."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from src.evaluation.inference.infer import calibrated, held_out, infer, nll
from src.evaluation.opened import open_run

Opener = Callable[..., AppTest]


def numbers(page: AppTest) -> dict[str, str]:
    """Label → number, of the boxes."""
    return {box.label: box.value for box in page.metric}


def test_a_sample_is_shown_with_the_models_numbers(open_page: Opener, digits_logs: Path) -> None:
    page = open_page("inference", digits_logs, run="vae/1", inf_row="3")
    run = open_run(digits_logs / "vae" / "1")
    x = run.data.rows("test", torch.tensor([3]))
    found = infer(run, x)
    share = float(held_out(run).percentile(found.numbers["energy"])[0])
    shown = numbers(page)
    assert shown["Energy (nats)"] == f"{float(found.numbers['energy'][0]):,.2f}"
    assert shown["Percentile of the energy (%)"] == f"{share:.1f}"
    assert set(shown) == {
        "Energy (nats)",
        "Percentile of the energy (%)",
        "KL(q ‖ p) (nats)",
        "−log p(x | z) (nats)",
        "MSE (intensity²)",
        "PSNR (dB)",
    }
    assert len(page.get("image")) == 3
    table = page.dataframe[0].value
    assert len(table) == run.model.latent_dim
    assert table["μ"].tolist() == pytest.approx(
        found.mean[0, found.kl[0].argsort(descending=True)].tolist()
    )
    assert not page.error


def test_two_runs_give_other_numbers(open_page: Opener, digits_logs: Path) -> None:
    """What is on the page comes from the weights: no number is the same in two seeds."""
    one, other = (
        open_page("inference", digits_logs, run=f"vae/{seed}", inf_row="5") for seed in (1, 2)
    )
    first, second = numbers(one), numbers(other)
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    assert not set(one.dataframe[0].value["μ"]) & set(other.dataframe[0].value["μ"])
    charts = [page.get("plotly_chart")[0].proto.spec for page in (one, other)]
    assert charts[0] != charts[1]


def test_the_bound_is_estimated_when_asked(open_page: Opener, digits_logs: Path) -> None:
    page = open_page("inference", digits_logs, run="vae/1")
    page.number_input(key="inf_k").set_value(20)
    page.button(key="inf_nll").click().run()
    assert not page.exception
    run = open_run(digits_logs / "vae" / "1")
    wanted = float(nll(run, run.data.rows("test", torch.tensor([0])), 20)[0])
    found = next(value for label, value in numbers(page).items() if "k = 20" in label)
    assert found == f"{wanted:,.2f}"


def test_a_draw_of_the_prior_follows_the_seed(open_page: Opener, digits_logs: Path) -> None:
    page = open_page("inference", digits_logs, run="vae/1", inf_source="prior")
    first = numbers(page)
    page.number_input(key="inf_seed").set_value(1).run()
    assert numbers(page) != first
    page.number_input(key="inf_seed").set_value(0).run()
    assert numbers(page) == first


def test_the_training_split_is_no_test(open_page: Opener, digits_logs: Path) -> None:
    page = open_page("inference", digits_logs, run="vae/1", inf_split="train")
    assert any("its numbers are no test" in caption.value for caption in page.caption)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_uploads_become_a_table(open_page: Opener, digits_logs: Path) -> None:
    run = open_run(digits_logs / "vae" / "1")
    x = run.data.rows("test", torch.arange(4))
    red = io.BytesIO()
    Image.new("RGB", (20, 20), (255, 0, 0)).save(red, "PNG")
    page = open_page("inference", digits_logs, run="vae/1", inf_source="upload")
    assert "become a table" in page.info[0].value
    page.file_uploader(key="inf_files").set_value(
        [
            ("held out.npy", npy(x.numpy()), ""),
            ("red.png", red.getvalue(), "image/png"),
            ("bad*.png", b"no picture", "image/png"),
        ]
    ).run()
    assert not page.exception
    assert r"bad\*\.png cannot be read" in page.warning[0].value
    assert any(
        "scaled from 20×20 to 8×8 pixels" in caption.value.replace("\\", "")
        for caption in page.caption
    )
    wanted = infer(run, x).numbers
    assert numbers(page)["Energy (nats)"] == f"{float(wanted['energy'][0]):,.2f}"
    page.button(key="inf_evaluate").click().run()
    assert not page.exception
    table = page.dataframe[1].value
    assert table["sample"].tolist()[3:] == ["held out.npy [3]", "red.png"]
    assert table["energy (nats)"].tolist()[:4] == pytest.approx(wanted["energy"].tolist(), rel=1e-4)
    assert "rejected" not in table  # these runs have no calibration
    # The table stays while another of the samples is looked at.
    page.number_input(key="inf_sample").set_value(2).run()
    assert len(page.dataframe) == 2
    assert numbers(page)["Energy (nats)"] == f"{float(wanted['energy'][2]):,.2f}"


def test_an_upload_that_cannot_be_read_is_one_sentence(
    open_page: Opener, digits_logs: Path
) -> None:
    page = open_page("inference", digits_logs, run="vae/1", inf_source="upload")
    page.file_uploader(key="inf_files").set_value(
        [("a.npy", npy(np.full((8, 8), np.nan)), "")]
    ).run()
    assert not page.exception
    assert len(page.error) == 1 and "NaN" in page.error[0].value
    assert not page.metric


def test_poses_have_the_runs_calibrated_percentile(open_page: Opener, hand_logs: Path) -> None:
    page = open_page("inference", hand_logs, run="hand", inf_row="2")
    run = open_run(hand_logs / "hand")
    yardstick = calibrated(run)
    assert yardstick is not None
    found = infer(run, run.data.rows("test", torch.tensor([2])), None, yardstick.calibrated)
    share = float(yardstick.percentile(found.numbers["energy"])[0])
    assert numbers(page)["Percentile of the energy (%)"] == f"{share:.1f}"
    assert {"MPJRE (degrees)", "MSE (rad²)"} <= set(numbers(page))
    verdict = next(c.value for c in page.caption if "have a lower energy" in c.value)
    assert "on which the run was calibrated" in verdict
    assert f"the threshold of {yardstick.calibrated.threshold:,.2f} nats" in verdict
    assert len(page.get("plotly_chart")) == 3  # errors and energies by joint, posterior


def test_a_calibration_of_other_weights_is_told(
    open_page: Opener, hand_logs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "hand"
    shutil.copytree(hand_logs / "hand", run)
    file = run / "model" / "energy.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"weights": "00000000"}))
    page = open_page("inference", tmp_path, run="hand")
    assert "Percentiles are among held-out data" in page.warning[0].value
    assert any("computed now" in caption.value.replace("\\", "") for caption in page.caption)


def test_sequences_are_shown_over_time(open_page: Opener, sequence_logs: Path) -> None:
    page = open_page("inference", sequence_logs, run="flow")
    assert not page.error
    assert {"Energy (nats)", "MSE (intensity²)", "PSNR (dB)"} <= set(numbers(page))
    assert len(page.get("image")) == 2  # the strip, and what moves
    assert len(page.get("vega_lite_chart")) == 2  # errors, and the latent trajectory


def test_a_damaged_run_is_one_sentence(
    open_page: Opener, digits_logs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "broken"
    shutil.copytree(digits_logs / "vae" / "1", run)
    weights = run / "model" / "model.safetensors"
    state = load_file(weights)
    save_file({name: values * torch.nan for name, values in state.items()}, weights)
    page = open_page("inference", tmp_path, run="broken")
    assert "is NaN or infinite" in page.error[0].value and not page.metric
    weights.write_bytes(weights.read_bytes()[:1000])
    page.run()
    assert not page.exception and len(page.error) == 1 and "is damaged" in page.error[0].value
    assert not page.metric
