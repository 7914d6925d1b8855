"""Arguments of the command line as text."""

import shlex

import pytest

from src.utils.arguments import (
    is_multirun,
    joined,
    key_of,
    quoted,
    split,
    value_text,
    with_multirun,
    with_value,
)
from src.utils.errors import UserError


def parsed(override: str) -> object:
    """What Hydra reads in it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).value()


def test_split_reads_lines_quotations_and_comments() -> None:
    text = "model=vae name='a b' # the first\n  -m seed=1,2"
    assert split(text) == ["model=vae", "name=a b", "-m", "seed=1,2"]
    assert split("  \n ") == []


@pytest.mark.parametrize("text", ["name='a", "model vae", "--config-dir=/tmp", "--cfg job", "-x"])
def test_what_is_no_argument_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        split(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "model=vae,beta_vae", "seed=1,2,3"],
        ["name='a b'", "~callbacks.figures", "+data.more=[1, 2]"],
        ["tags=['it\\'s',\"x\"]", "data.path=/a/b c", "name=$HOME;`id`"],
        ["data.path="],
    ],
)
def test_joined_is_what_a_shell_splits_again(arguments: list[str]) -> None:
    assert split(joined(arguments)) == shlex.split(joined(arguments)) == arguments


def test_joined_is_easy_to_read() -> None:
    assert joined(["model=vae", "name='a b'", "seed=1"]) == """model=vae name="'a b'" seed=1"""
    assert joined(["-m", "seed=1,2", "name=$x"]) == "-m seed=1,2 name='$x'"


def test_a_value_replaces_what_was_said_of_its_key_and_nothing_else() -> None:
    arguments = ["model=vae", "seed=1", "model.latent_dim=4", "seed=2"]
    assert with_value(arguments, "seed", "3") == ["model=vae", "seed=3", "model.latent_dim=4"]
    assert with_value(arguments, "seed", None) == ["model=vae", "model.latent_dim=4"]
    assert with_value(arguments, "name", "x") == [*arguments, "name=x"]
    assert with_value(["+a.b=1"], "a.b", "2") == ["+a.b=2"]
    assert with_value(["++a.b=1"], "a.b", "2") == ["++a.b=2"]


def test_the_key_of_an_argument() -> None:
    keys = [key_of(one) for one in ("model/prior=vamp", "++a.b=1=2", "~logger", "-m")]
    assert keys == ["model/prior", "a.b", "logger", ""]


def test_multirun_is_put_first_and_taken_away() -> None:
    assert with_multirun(["seed=1,2", "--multirun"], True) == ["-m", "seed=1,2"]
    assert with_multirun(["-m", "seed=1"], False) == ["seed=1"]
    assert is_multirun(["seed=1", "-m"])
    assert not is_multirun(["seed=1"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("1e-3", 0.001),
        (" true ", True),
        ("[1,8]", [1, 8]),
        ("a=b", "a=b"),
        ("it's", "it's"),
        ("back\\slash'", "back\\slash'"),
        ("null", None),
    ],
)
def test_a_typed_value_is_quoted_only_where_hydra_would_not_understand_it(
    typed: str, meant: object
) -> None:
    assert parsed(f"key={value_text(typed)}") == meant


def test_quoted_text_is_read_as_itself() -> None:
    for text in ("plain", "a,b", "it's", "C:\\x", "\\\\n\\", "a\\'b", "true", "12", ""):
        assert parsed(f"key={quoted(text)}") == text
