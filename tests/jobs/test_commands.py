"""What a command line comes to, without running it."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from src.jobs import commands
from src.jobs.commands import Composed, as_text, composed, jobs_of
from src.utils.arguments import value_text
from src.utils.errors import UserError
from src.utils.main import CONF
from tests.commands import resolved


def by_key(found: Composed) -> dict[str, str]:
    return {setting.key: setting.value for setting in found.settings}


def test_the_default_shows_every_setting_with_its_default_and_what_it_is() -> None:
    found = composed([])
    settings = {setting.key: setting for setting in found.settings}
    assert found.runs == 1
    assert found.error is None
    assert found.choices["model"] == "vae"
    assert found.choices["model/prior"] == "standard_normal"
    assert found.choices["sampler@model.sampler"] == "none"
    assert settings["data.seed"].value == "0"
    assert settings["data.seed"].default == "${seed}"
    assert settings["data.seed"].about == "of the training order"
    assert settings["model.prior.dim"].about == "latent dimensions."  # of the class's docstring
    assert not any(key.endswith("_target_") for key in settings)


def test_values_are_those_of_the_command_line_and_defaults_those_of_the_groups(
    tmp_path: Path,
) -> None:
    arguments = ["model=riemannian_flow", "model.latent_dim=4", "seed=7", "name='a b'"]
    found, real = composed(arguments), resolved(arguments, tmp_path)
    settings = {setting.key: setting for setting in found.settings}
    assert found.choices["data"] == real["data"]["name"] == "cyclic_sprites"
    assert settings["model.latent_dim"].value == str(real["model"]["latent_dim"]) == "4"
    assert settings["model.latent_dim"].default != "4"
    assert settings["data.seed"].value == str(real["data"]["seed"]) == "7"
    assert settings["name"].value == "a b"


def test_a_shown_value_may_be_written_behind_its_key() -> None:
    before = by_key(composed(["experiment=hand_quick"]))
    plain = {key: value for key, value in before.items() if "RUN_DIRECTORY" not in value}
    plain = {k: v for k, v in plain.items() if v not in ("", "{}") and "loss" not in k}
    again = [f"{key}={value_text(value)}" for key, value in plain.items()]
    after = by_key(composed(["experiment=hand_quick", *again]))
    assert {key: after[key] for key in plain} == plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.001, "0.001"),
        ("adam", "adam"),
        ("true", "'true'"),
        ("12", "'12'"),
        ("a,b", "'a,b'"),
        ([1, "x y", [None]], "[1,x y,[null]]"),
        ({"a": {"b": 1}}, "{a:{b:1}}"),
        ("${data.shape}", "${data.shape}"),
    ],
)
def test_plain_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model=vea"], "'model' has no option 'vea'; nearest: 'vae'"),
        (["trainer.max_epoch=3"], "there is no setting 'trainer.max_epoch'; nearest"),
        (["seed=1,2"], "seed has several values: add -m"),
        (["model.latent_dim=[1"], "LexerNoViableAlt|mismatched|missing|error|no viable"),
    ],
)
def test_what_does_not_compose_is_told_in_a_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as told:
        composed(arguments)
    assert "\n" not in str(told.value)


def test_a_config_that_cannot_be_resolved_is_shown_with_the_reason() -> None:
    found = composed(["data=images"])
    assert found.error == (
        "data.shape: data=images needs data.path=<a folder, .npz or .npy of pictures>"
    )
    assert by_key(found)["data.path"] == "null"


def test_several_runs_are_counted_and_the_first_is_shown() -> None:
    found = composed(["-m", "seed=5,6,7", "model=beta_vae,vae"])
    assert found.runs == 6
    assert found.choices["model"] == "beta_vae"
    assert by_key(found)["seed"] == "5"


def test_runs_that_an_experiment_asks_for_are_counted() -> None:
    assert len(jobs_of(["-m", "experiment=atari_study"])) == 9
    assert len(jobs_of(["experiment=atari_study"])) == 1


def test_a_search_decides_by_itself_how_many() -> None:
    found = composed(["-m", "hparams_search=beta_vae"])
    assert found.runs is None
    assert found.choices["hydra/sweeper"] == "study"


@pytest.mark.parametrize("values", ["range(1,100000000)", ",".join(map(str, range(101)))])
def test_more_runs_than_a_page_can_count_are_refused(values: str) -> None:
    with pytest.raises(UserError, match="more than 10000 runs: give seed fewer values"):
        jobs_of(["-m", f"data.seed={','.join(map(str, range(100)))}", f"seed={values}"])


def test_a_damaged_file_of_conf_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "model" / "vae.yaml").write_text("a: [1\n")
    monkeypatch.setattr(commands, "CONF", tmp_path / "conf")
    with pytest.raises(UserError, match="vae.yaml") as told:
        composed([])
    assert "\n" not in str(told.value)


def test_a_resumed_run_brings_its_own_arguments(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    overrides = ["model=beta_vae", "paths.log_dir=/elsewhere"]
    (tmp_path / "run" / "run.json").write_text(json.dumps({"overrides": overrides}))
    found = composed([f"ckpt_path='{checkpoint}'", "trainer.max_epochs=9"])
    assert found.choices["model"] == "beta_vae"
    assert by_key(found)["paths.log_dir"] == "logs"
    assert by_key(found)["ckpt_path"] == as_text(str(checkpoint))


def test_several_windows_compose_at_once() -> None:
    names = ["vae", "beta_vae", "vq_vae"]
    found: dict[str, str] = {}

    def one(name: str) -> None:
        found[name] = by_key(composed([f"model={name}"]))["model.name"]

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: name for name in names}


def test_composing_imports_no_torch() -> None:
    code = (
        "import sys; from src.jobs.commands import composed; composed(['model=rhvae']);"
        "assert 'torch' not in sys.modules and 'optuna' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
