"""Opening models and checkpoints: what is whole opens, what is not says so, and nothing is ever executed."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from src.runs import load_model
from src.runs.loading import check_state, checkpoint_model, portable, read_checkpoint, save_model
from src.utils.build import build
from src.utils.errors import UserError


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory) -> Path:
    """A model's directory, which tests must not change."""
    config = tiny_config()
    directory = tmp_path_factory.mktemp("saved") / "model"
    save_model(build(config), portable(config), directory)
    return directory


@pytest.fixture
def saved(model, tmp_path) -> Path:
    """A run's directory with a model in it."""
    shutil.copytree(model, tmp_path / "model")
    return tmp_path


def rewrite(saved: Path, change) -> None:
    file = saved / "model" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    change(config)
    file.write_text(yaml.safe_dump(config))


def test_a_model_is_opened_by_its_run_or_by_its_own_directory(saved):
    first, second = load_model(saved), load_model(str(saved / "model"))
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert sorted(file.name for file in (saved / "model").iterdir()) == [
        "config.yaml",
        "model.safetensors",
    ]


def test_a_portable_config_names_models_and_parts_only(saved):
    text = (saved / "model" / "config.yaml").read_text()
    assert "_target_: src.models.vae.VAE" in text
    assert all(
        line.split("_target_:")[1].strip().startswith("src.models.")
        for line in text.splitlines()
        if "_target_:" in line
    )


TARGETS = [
    "os.system",
    "torch.hub.load",
    "src.models.vae.torch.hub.load",
    "src.runs.record.git_commit",
    "builtins.exec",
    "torch.optim.Adam",
]


@pytest.mark.parametrize("where", ["root", "part", "list"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_config_made_to_run_code_runs_nothing(saved, target, where):
    sentinel = saved / "ran"
    evil = {"_target_": target, "_args_": [f"touch {sentinel}"]}
    places = {"root": lambda c: c.update(evil), "part": lambda c: c["prior"].update(evil)}
    places |= {"list": lambda c: c.update(shape=[evil])}
    rewrite(saved, places[where])
    with pytest.raises(
        UserError,
        match=f"'{target}' (is refused: a config may only name classes of src.models$|does not exist)",
    ):
        load_model(saved)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "${oc.create:{_target_:torch.nn.modules.linear.Linear,in_features:1,out_features:1}}",
    ],
)
def test_a_config_that_would_be_resolved_here_is_refused(saved, value):
    rewrite(saved, lambda config: config.update(prior=value))
    with pytest.raises(UserError, match="config.yaml is refused: it holds interpolations"):
        load_model(saved)


def test_yaml_that_would_construct_objects_is_refused(saved):
    (saved / "model" / "config.yaml").write_text(
        f"!!python/object/apply:os.system ['touch {saved / 'ran'}']"
    )
    with pytest.raises(UserError, match="config.yaml is not plain YAML"):
        load_model(saved)
    assert not (saved / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", "is not plain YAML"),
        (b"\xff\xfe\x00", "is not plain YAML"),
        (b"when: 2020-13-45", "is not plain YAML: month"),
        (b"a: " + b"[" * 3000 + b"]" * 3000, "is not plain YAML"),
        (b"a: &a\n  b: *a", "is refused: it holds aliases"),
        (b"null: 1", "is refused: it holds aliases, or keys that are no names"),
        (b"a: 1", "describes no model: it has no _target_"),
        (b"", "describes no model: it has no _target_"),
        (b"_target_: src.models.draw.Draw\n_partial_: true", "describes no model"),
        (
            b"_target_: src.models.objectives.ELBO\nbta: 1",
            "'bta' is not a setting of src.models.objectives.ELBO; nearest: 'beta'",
        ),
        (b"_target_: src.models.objectives.ELBO\nbeta: [x]", "describes cannot be built"),
    ],
)
def test_a_config_that_is_no_models_is_named(saved, content, message):
    (saved / "model" / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_model(saved)


def test_a_missing_half_is_named(saved, tmp_path):
    (saved / "model" / "config.yaml").unlink()
    with pytest.raises(UserError, match="config.yaml is missing"):
        load_model(saved)
    (saved / "model" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no model: there is no .*model.safetensors"):
        load_model(saved)
    with pytest.raises(UserError, match="nowhere holds no model"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 2000, -1])
def test_truncated_weights_are_damaged(saved, kept):
    file = saved / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        load_model(saved)


def test_a_damaged_header_never_ends_in_a_traceback(saved):
    file = saved / "model" / "model.safetensors"
    whole = file.read_bytes()
    for position in [*range(16), *range(16, 3000, 61)]:
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        try:
            load_model(saved)
        except UserError as error:
            assert "model.safetensors is" in str(error)


def test_pickled_weights_are_not_opened(saved):
    (saved / "model" / "model.safetensors").write_bytes(pickle.dumps(Payload(saved / "ran")))
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        load_model(saved)
    assert not (saved / "ran").exists()


def test_weights_of_another_architecture_are_named(saved, tiny_config):
    rewrite(saved, lambda config: config["decoder"].update(width=13))
    with pytest.raises(
        UserError,
        match=r"another architecture: 'latent.decoder.net.0.bias' is \[12\] there, \[13\] here",
    ):
        load_model(saved)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("model=ae", "'objective|latent"),
        (
            "model.likelihood.scale=learned",
            "running_variance' is not in this model|log_sigma' is missing",
        ),
    ],
)
def test_missing_and_surplus_tensors_are_named(tiny_vae, other, message):
    with pytest.raises(UserError, match=f"there is of another architecture: .*{message}"):
        check_state(tiny_vae(other), tiny_vae().state_dict(), "there")
    check_state(tiny_vae(), tiny_vae().state_dict(), "there")


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"w": torch.randn(500)}, "epoch": 3, "config": {"seed": 0}}, path)
    return path


def test_a_checkpoint_is_read(checkpoint):
    content = read_checkpoint(checkpoint)
    assert content["epoch"] == 3 and content["state_dict"]["w"].shape == (500,)


def test_a_missing_checkpoint_names_its_neighbours(checkpoint):
    with pytest.raises(
        UserError, match=r"ckpt_path=.*best.ckpt does not exist; there are: last.ckpt"
    ):
        read_checkpoint(checkpoint.with_name("best.ckpt"))
    with pytest.raises(UserError, match="does not exist$"):
        read_checkpoint(checkpoint.parent / "nowhere" / "best.ckpt")


def test_a_checkpoint_cut_anywhere_is_refused(checkpoint):
    whole = checkpoint.read_bytes()
    for kept in range(0, len(whole), max(len(whole) // 25, 1)):
        checkpoint.write_bytes(whole[:kept])
        with pytest.raises(UserError, match="last.ckpt is (truncated or no checkpoint|damaged)"):
            read_checkpoint(checkpoint)


def test_a_checkpoint_damaged_anywhere_is_refused_or_read(checkpoint):
    # A flipped byte in the numbers cannot be seen; one in the structure must end in a sentence, never in a traceback.
    whole = checkpoint.read_bytes()
    for position in range(0, len(whole), 37):
        checkpoint.write_bytes(
            whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]
        )
        try:
            assert "state_dict" in read_checkpoint(checkpoint)
        except UserError as error:
            assert "last.ckpt" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle"])
def test_a_pickle_payload_is_not_opened(tmp_path, kind):
    file, sentinel = tmp_path / "evil.ckpt", tmp_path / "ran"
    content = {"state_dict": {}, "callbacks": Payload(sentinel)}
    if kind == "bare pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError, match="more than tensors and plain values|no checkpoint"):
        read_checkpoint(file)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "content", [{"weights": torch.zeros(2)}, {"state_dict": [1]}, {"state_dict": {1: 2}}]
)
def test_a_file_of_something_else_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "w.ckpt")
    with pytest.raises(UserError, match="is no training checkpoint: it has no state_dict"):
        read_checkpoint(tmp_path / "w.ckpt")


def test_a_checkpoint_of_plain_values_is_no_model(tiny_config, tmp_path):
    config = tiny_config()
    state = dict.fromkeys(build(config).state_dict(), "x")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": state}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="is no tensor there"):
        checkpoint_model(tmp_path, config)
    with pytest.raises(UserError, match="describes no model"):
        checkpoint_model(tmp_path, {"dim": 3})
