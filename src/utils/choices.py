"""What conf/ offers and what its files say of it: groups, their options, and the comments beside every setting."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from src.utils.main import CONF, ROOT, options

HEADER = re.compile(r"^# @package\b.*$")


@dataclass(frozen=True)
class Option:
    """One file of a group: its name, and the comment that it opens with."""

    name: str
    about: str


def stamp() -> int:
    """Changes whenever a file of conf/ is changed, added or taken away."""
    files = sorted(CONF.rglob("*.yaml"))
    return hash(tuple((str(file), file.stat().st_mtime_ns) for file in files))


def options_of(group: str) -> list[Option]:
    """The options of a group, such as ``model/prior``: ``none`` first, then by name; plugins' own come unexplained."""
    return [
        Option(name, opening(file) if (file := CONF / group / f"{name}.yaml").exists() else "")
        for name in sorted(options(group), key=lambda name: (name != "none", name))
    ]


def opening(file: Path) -> str:
    """The comment that a YAML file opens with, on one line."""
    return " ".join(_comments(_lines(file)))


def _comments(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("#"):
            return
        if not HEADER.match(line):
            yield line.lstrip("# ").rstrip()


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@lru_cache(maxsize=1024)
def _documented(file: Path, stamp: int) -> dict[str, str]:
    lines = _lines(file)
    first = next((n for n, line in enumerate(lines) if not line.startswith("#")), 0)
    root = yaml.compose("\n".join(lines))
    found: dict[str, str] = {}
    for key, node, value in _nodes(root, ""):
        beside = _beside(lines[node.end_mark.line], lines, value)
        above = _above(lines, node.start_mark.line, node.start_mark.column, first)
        if about := " ".join([*above, *beside]):
            found[key] = about
    return found


def documented(file: Path) -> dict[str, str]:
    """Dotted key → the comment beside it or above it, of the settings in a YAML file that have one."""
    return _documented(file, file.stat().st_mtime_ns)


def _nodes(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key, value
            yield from _nodes(value, f"{name}.")


def _beside(key_line: str, lines: list[str], value: yaml.Node) -> list[str]:
    """The comment behind a value that ends on a line of its own or on that of its key."""
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    rest = (
        key_line.partition(":")[2] if block else lines[value.end_mark.line][value.end_mark.column :]
    )
    _, sign, comment = rest.partition("#")
    return [comment.strip()] if sign else []


def _above(lines: list[str], line: int, column: int, first: int) -> list[str]:
    """The comment lines right above a key and as far to the right as it; what opens the file belongs to the file."""
    found: list[str] = []
    while line > first and lines[line - 1][:column].strip() == "":
        text = lines[line - 1][column:]
        if not text.startswith("#"):
            break
        found.insert(0, text.lstrip("# ").rstrip())
        line -= 1
    return found


@lru_cache(maxsize=1024)
def arguments_of(target: str) -> dict[str, str]:
    """Argument → what the docstring of our class ``target`` says of it. The class is read and not imported."""
    module, _, name = target.rpartition(".")
    if not module.startswith("src."):
        return {}
    place = ROOT / module.replace(".", "/")
    files = [place.with_suffix(".py")] if place.with_suffix(".py").exists() else place.rglob("*.py")
    for file in files:
        text = file.read_text(encoding="utf-8")
        if re.search(rf"^class {re.escape(name)}\b", text, re.MULTILINE):
            return _arguments(ast.parse(text), name)
    return {}


def _arguments(tree: ast.Module, name: str) -> dict[str, str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return dict(_items(ast.get_docstring(node) or ""))
    return {}


def _items(docstring: str) -> Iterator[tuple[str, str]]:
    """The items below ``Args:`` of a Google docstring, of which one line may hold several."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", docstring, re.MULTILINE)
    joined = re.sub(r"\n {5,}", " ", section[1]) if section else ""
    for item in re.split(r"\n|; (?=\w+: )", joined):
        names, sign, about = item.strip().partition(":")
        for name in names.split(","):
            if sign:
                yield name.strip(), about.strip()
