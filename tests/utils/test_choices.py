"""What conf/ says of its groups and settings."""

from pathlib import Path

import pytest

from src.utils import choices
from src.utils.choices import arguments_of, documented, opening, options_of
from src.utils.main import CONF


def test_options_come_with_the_comment_that_their_file_opens_with() -> None:
    found = {option.name: option.about for option in options_of("experiment")}
    assert next(iter(found)) == "none"
    assert found["hand_quick"].startswith("A small pose prior on the drawn hands")
    assert "@package" not in found["hand_quick"]
    assert {option.name for option in options_of("model/prior")} >= {"none", "vamp"}


def test_every_option_of_the_menus_is_explained() -> None:
    for group in ("experiment", "model", "data", "trainer", "callbacks", "logger", "debug"):
        missing = [option.name for option in options_of(group) if not option.about]
        assert not missing, (group, missing)


def test_comments_beside_and_above_a_key_belong_to_it(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "# The file.\n"
        "# Its second line.\n"
        "first: 1\n"
        "# Above,\n"
        "# on two lines.\n"
        "second: 2\n"
        "inner: # of the block\n"
        "  deep: [1, 2] # behind a list\n"
        "  # above the deep one\n"
        "  text: 'a # b' # behind text\n"
        "\n"
        "bare: x\n"
    )
    assert opening(file) == "The file. Its second line."
    assert documented(file) == {
        "second": "Above, on two lines.",
        "inner": "of the block",
        "inner.deep": "behind a list",
        "inner.text": "above the deep one behind text",
    }


def test_every_file_of_conf_can_be_read() -> None:
    found = {str(file.relative_to(CONF)): documented(file) for file in CONF.rglob("*.yaml")}
    assert found["config.yaml"]["seed"].startswith("Seed of the weights")
    assert found["data/digits.yaml"]["levels"] == "grey levels, 0 to 16 sixteenths"


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "CONF", tmp_path)
    file = tmp_path / "one.yaml"
    file.write_text("key: 1 # old\n")
    before = choices.stamp()
    assert documented(file) == {"key": "old"}
    file.write_text("key: 1 # new and longer\n")
    assert documented(file) == {"key": "new and longer"}
    assert choices.stamp() != before


def test_arguments_are_explained_by_the_docstring_of_their_class() -> None:
    assert arguments_of("src.models.vae.VAE")["decoder"] == "parts, or configs of parts."
    # Two on one line, in a package that names a class of one of its modules.
    both = arguments_of("src.callbacks.checkpoints.BestAndLast")
    assert both["mode"].startswith("``min``")
    assert "split" in arguments_of("src.datamodules.DigitsDataModule")
    assert arguments_of("torch.optim.Adam") == {}
    assert arguments_of("src.models.vae.NoSuchClass") == {}
