"""Arguments of the command line as text: read, written, and changed one at a time."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from src.utils.errors import UserError

# What a shell does not leave alone between double quotation marks.
SPECIAL = {*'"$`\\!'}
MULTIRUN = ("-m", "--multirun")


def quoted(text: str) -> str:
    """``text`` as a value on Hydra's command line, where a backslash is special before a quotation mark only."""
    marked = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{marked}'"


def path_text(path: Path) -> str:
    """``path`` as a value on Hydra's command line, quoted where it has to be."""
    plain = all(letter.isalnum() or letter in "/._-" for letter in str(path))
    return str(path) if plain else quoted(str(path))


def split(text: str) -> list[str]:
    """What a shell makes of arguments that were typed, on one line or on several.

    Raises:
        UserError: a quotation does not end, or an argument is neither ``key=value``, ``~key`` nor ``-m``.
    """
    try:
        arguments = shlex.split(text, comments=True)
    except ValueError as error:
        raise UserError(f"the arguments cannot be read: {error}") from error
    for argument in arguments:
        if argument not in MULTIRUN and (argument.startswith("-") or not _is_override(argument)):
            raise UserError(f"'{argument}' is no argument: write group=option, key=value or -m")
    return arguments


def _is_override(argument: str) -> bool:
    return argument.startswith("~") or "=" in argument


def joined(arguments: Sequence[str]) -> str:
    """Arguments as text that can be pasted behind a command in a shell."""
    return " ".join(_shown(argument) for argument in arguments)


def _shown(argument: str) -> str:
    """``argument`` for a shell, with nothing but its value in quotes where anything has to be."""
    key, sign, value = argument.partition("=")
    if not sign or shlex.quote(key) != key:
        return shlex.quote(argument)
    if "'" in value and not SPECIAL & {*value}:
        return f'{key}="{value}"'
    return f"{key}={shlex.quote(value)}" if value else argument


def is_multirun(arguments: Sequence[str]) -> bool:
    """Whether the arguments start several runs."""
    return any(argument in MULTIRUN for argument in arguments)


def key_of(argument: str) -> str:
    """What an argument sets: ``model``, ``trainer.max_epochs``; empty for ``-m``."""
    return "" if argument in MULTIRUN else argument.lstrip("+~").split("=", 1)[0]


def asks_machine(argument: str) -> bool:
    """Whether an argument would ask this machine for a value, such as ``${oc.env:SECRET}`` in a stranger's run."""
    return re.search(r"\$\{.*:", argument, re.DOTALL) is not None


def with_value(arguments: Sequence[str], key: str, value: str | None) -> list[str]:
    """The arguments with ``key=value`` in the place of what they say of ``key``, else at the end; None takes it out."""
    own = [argument for argument in arguments if key_of(argument) == key]
    if value is None:
        return [argument for argument in arguments if key_of(argument) != key]
    sign = "+" * (len(own[-1]) - len(own[-1].lstrip("+"))) if own else ""
    new = f"{sign}{key}={value}"
    if not own:
        return [*arguments, new]
    place = arguments.index(own[0])
    rest = [argument for argument in arguments[place + 1 :] if argument not in own]
    return [*arguments[:place], new, *rest]


def with_multirun(arguments: Sequence[str], wanted: bool) -> list[str]:
    """The arguments with ``-m`` before them, or without it."""
    rest = [argument for argument in arguments if argument not in MULTIRUN]
    return ["-m", *rest] if wanted else rest


def value_text(typed: str) -> str:
    """What was typed as a setting's value, quoted where Hydra would not understand it otherwise."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    typed = typed.strip()
    try:
        OverridesParser.create().parse_override(f"key={typed}")
    except HydraException:
        return quoted(typed)
    return typed
