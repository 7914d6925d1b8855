"""The page of the latent explorer and its live board, without a browser."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from src.app.explorer import VIEWS
from src.evaluation.codes import encoded
from src.evaluation.exploring.sliders import Sliders
from src.evaluation.opened import open_run
from src.utils.pictures import pixels

Open = Callable[..., AppTest]


def shown(page: AppTest) -> dict[str, Any]:
    """What the board of a page was sent."""
    (board,) = page.get("bidi_component")
    return json.loads(board.proto.json)


def ask(page: AppTest, **question: Any) -> dict[str, Any]:
    """What the board is sent after its sliders have said ``question``, as the browser would."""
    before = shown(page)
    asked = {
        **before["sliders"],
        "row": None,
        "action": "",
        "number": before["answer"] + 1,
    } | question
    page.session_state[before["run"]] = {"asked": asked}
    page.run()
    assert not page.exception, page.exception
    after = shown(page)
    assert after["answer"] == asked["number"]
    return after


def picture(data: dict[str, Any]) -> np.ndarray:
    """The picture on the board as its pixels."""
    uri = data["picture"]["uri"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_board_shows_what_the_model_decodes(open_page: Open, digits_logs: Path) -> None:
    page = open_page("explorer", digits_logs, run="vae/1")
    run = open_run(digits_logs / "vae/1")
    z = [0.5, -1.0, 2.0, 0.25]
    data = ask(page, mode="exact", z=z)
    with torch.no_grad():
        expected = run.model.decode(torch.tensor(z)[None]).mean[0]
    assert np.array_equal(picture(data), pixels(expected.numpy()))
    assert data["z"] == z
    assert not data["error"]
    kl = encoded(run.model, run.held_out(500)[0])[2]
    assert kl is not None
    order = [dimension["index"] for dimension in data["dimensions"]]
    assert order == kl.argsort(descending=True).tolist()
    assert [d["told"] for d in data["dimensions"]] == pytest.approx(kl[order].tolist())


def test_two_runs_show_other_pictures_and_numbers(open_page: Open, digits_logs: Path) -> None:
    first, second = (
        ask(open_page("explorer", digits_logs, run=name), mode="exact", z=[1.0] * 4)
        for name in ("vae/1", "vae/2")
    )
    assert not np.array_equal(picture(first), picture(second))
    told = [{d["index"]: d["told"] for d in data["dimensions"]} for data in (first, second)]
    assert all(told[0][i] != told[1][i] for i in range(4))


def test_the_noise_stays_and_sliders_move_the_picture(open_page: Open, digits_logs: Path) -> None:
    page = open_page("explorer", digits_logs, run="vae/1")
    start = shown(page)
    right = ask(page, mu=[1.0, 0.0, 0.0, 0.0])
    assert np.subtract(right["z"], start["z"]).tolist() == pytest.approx([1, 0, 0, 0], abs=1e-4)
    assert not np.array_equal(picture(right), picture(start))
    back = ask(page, mu=[0.0] * 4)
    assert np.array_equal(picture(back), picture(start))
    other = ask(page, mu=[0.0] * 4, seed=1)
    assert not np.array_equal(picture(other), picture(start))


def test_buttons_move_sliders(open_page: Open, digits_logs: Path) -> None:
    page = open_page("explorer", digits_logs, run="vae/1")
    data = ask(page, action="randomise", seed=4)
    assert data["adopt"]
    assert data["sliders"]["mu"] == list(Sliders.read({"seed": 4}, 4).randomised().mu)
    data = ask(page, action="sample", row=7)
    run = open_run(digits_logs / "vae/1")
    x = run.data.floats("test")[7]
    with torch.no_grad():
        q = run.model.encode(x[None])
    assert data["sliders"]["mu"] == pytest.approx(q.mean[0].tolist())
    assert data["sliders"]["sigma"] == pytest.approx(q.stddev[0].tolist())
    assert (
        data["original"]["caption"] == f"Held-out sample 7, label {int(run.data.labels('test')[7])}"
    )
    assert data["samples"] == len(run.data.floats("test"))


def test_the_address_holds_the_sliders(open_page: Open, digits_logs: Path) -> None:
    page = open_page("explorer", digits_logs, run="vae/1")
    left = ask(page, mu=[0.0, 1.5, 0.0, -0.25], sigma=[1.0, 0.0, 1.0, 1.0], seed=9)
    said = {key: text for key, text in left["address"].items() if text is not None}
    assert said == {
        "run": "vae/1",
        "live_mu": "1:1.5,3:-0.25",
        "live_sigma": "1:0",
        "live_seed": "9",
    }
    again = shown(open_page("explorer", digits_logs, **said))
    assert again["z"] == left["z"]
    assert again["picture"] == left["picture"]


def test_an_address_that_makes_no_sense_is_told(open_page: Open, digits_logs: Path) -> None:
    page = open_page("explorer", digits_logs, run="vae/1", live_mu="77:1")
    assert "no dimension 77" in page.warning[0].value
    assert shown(page)["sliders"]["mu"] == [0.0] * 4


def test_what_cannot_be_decoded_is_told_and_the_board_goes_on(
    open_page: Open, digits_logs: Path
) -> None:
    page = open_page("explorer", digits_logs, run="vae/1")
    for question, message in (
        ({"action": "sample", "row": 10**6}, "not one of the held-out samples"),
        ({"action": "sample", "row": "7"}, "must be a whole one"),
        ({"mu": [1.0]}, "4 numbers"),
        ({"mode": "prior", "mu": [0.0] * 4}, None),
    ):
        data = ask(page, **question)
        assert (message or "") in data["error"]
        assert (data["picture"] is None) == bool(message)


def test_the_sliders_are_there_when_one_comes_back(open_page: Open, digits_logs: Path) -> None:
    page = open_page("explorer", digits_logs, run="vae/1")
    original = ask(page, action="sample", row=3)["original"]
    data = ask(page, mode="exact", z=[1.0, 2.0, 3.0, 4.0], row=3)
    assert data["original"] is None  # the board has it
    del page.session_state[data["run"]]  # as for a board that another view has taken off the page
    page.run()
    assert shown(page)["z"] == [1.0, 2.0, 3.0, 4.0]
    assert shown(page)["original"] == original
    assert page.session_state["ex_board_z"] == (
        str((digits_logs / "vae/1").resolve()),
        [1.0, 2.0, 3.0, 4.0],
    )


def test_sliders_stay_when_a_training_writes_new_weights(
    open_page: Open, digits_logs: Path, tmp_path: Path
) -> None:
    shutil.copytree(digits_logs / "vae/1", tmp_path / "run")
    page = open_page("explorer", tmp_path, run="run")
    asked = {"mode": "exact", "z": [1.0, 2.0, 3.0, 4.0], "row": 3}
    before = ask(page, **asked)
    weights = "model/model.safetensors"
    shutil.copyfile(digits_logs / "vae/2" / weights, tmp_path / "run" / weights)
    page.run()
    after = shown(page)
    assert after["run"] != before["run"]
    assert after["z"] == before["z"]
    assert after["original"]["caption"].startswith("Held-out sample 3")
    other = ask(open_page("explorer", digits_logs, run="vae/2"), **asked)
    for part in ("picture", "dimensions"):
        assert after[part] == other[part] != before[part]


@pytest.mark.parametrize("view", list(VIEWS))
def test_every_other_view_opens(open_page: Open, digits_logs: Path, view: str) -> None:
    page = open_page("explorer", digits_logs, run="vae/1", ex_view=view)
    assert page.segmented_control[0].value == view
    assert not page.get("bidi_component")


def test_hands_are_drawn_on_the_board(open_page: Open, hand_logs: Path) -> None:
    page = open_page("explorer", hand_logs, run="hand")
    data = shown(page)
    assert data["picture"]["drawn"]
    before = data["picture"]["uri"]
    count = len(data["dimensions"])
    assert before.startswith("data:image/svg+xml;base64,")
    assert ask(page, mu=[2.0] * count)["picture"]["uri"] != before


def test_sequences_are_sent_with_all_their_frames(open_page: Open, sequence_logs: Path) -> None:
    page = open_page("explorer", sequence_logs, run="flow")
    data = ask(page, mode="exact", z=[0.5, 0.0, 0.0, 0.0])
    run = open_run(sequence_logs / "flow")
    with torch.no_grad():
        frames = run.model.decode(torch.tensor([[0.5, 0.0, 0.0, 0.0]])).mean[0]
    assert data["picture"]["frames"] == 8
    expected = np.concatenate([pixels(frame) for frame in frames.numpy()], 1)
    assert np.array_equal(picture(data), expected)
    assert data["modes"] == ["normal", "standard", "prior", "exact"]
    assert not ask(page, mode="prior")["error"]


def test_a_run_without_its_data_or_with_damaged_weights(
    open_page: Open, digits_logs: Path, tmp_path: Path
) -> None:
    for name in ("nodata", "damaged"):
        shutil.copytree(digits_logs / "vae/1", tmp_path / name)
    config = tmp_path / "nodata" / "config.yaml"
    config.write_text(config.read_text().replace("src.datamodules.DigitsDataModule", "os.system"))
    data = shown(open_page("explorer", tmp_path, run="nodata"))
    assert "held-out data cannot sort them" in data["notes"][0]
    assert data["samples"] == 0
    assert data["picture"] is not None
    (tmp_path / "damaged" / "model" / "model.safetensors").write_bytes(b"nothing")
    page = open_page("explorer", tmp_path, run="damaged")
    assert "damaged" in page.error[0].value


def test_without_runs_the_page_says_so(open_page: Open, tmp_path: Path) -> None:
    page = open_page("explorer", tmp_path)
    assert "no such run" in page.info[0].value
