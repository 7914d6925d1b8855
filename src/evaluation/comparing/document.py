"""A report as headings, text, tables, pictures and charts, and how it is written as HTML and as Markdown."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

from src.utils.charts import CHART

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1f2937}
h1{font-size:1.6rem} h2{font-size:1.2rem;margin-top:2rem} .wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem} th,td{padding:.25rem .7rem;border-bottom:1px solid #d1d5db}
th{text-align:left;white-space:nowrap} td{font-variant-numeric:tabular-nums} .good{color:#15803d} .bad{color:#b91c1c}
img{max-width:100%} figure{margin:1rem 0} figcaption{font-size:.85rem;color:#4b5563}
"""
# What Markdown would take for more than text; a line between letters it leaves alone.
MARKS = re.compile(r"([\\`*{}\[\]#!|~<>$&]|(?<![^\W_])_|_(?![^\W_]))")
MARKS_OF_CODE = re.compile(r"[`|\n\r]")
Tone = Literal["good", "bad"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    words: str


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
        head: the columns' names.
        rows: cells, each row as long as ``head``.
        bold: (row, column) of what is best in its row.
        tones: (row, column) → good or bad.
        code: columns of names, such as those of settings.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    tones: dict[tuple[int, int], Tone] = field(default_factory=dict)
    code: tuple[int, ...] = ()

    def plain_rows(self) -> list[dict[str, str]]:
        """A dict a row; columns of one name are told apart by a number."""
        names: list[str] = []
        for name in self.head:
            taken = sum(other == name or other.startswith(f"{name} #") for other in names)
            names.append(f"{name} #{taken + 1}" if name in names else name)
        return [dict(zip(names, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Chart:
    """A figure of plotly's and what it shows."""

    figure: Any
    caption: str


Part = Text | Table | Picture | Chart


@dataclass(frozen=True)
class Document:
    """A title and sections; none of their words is taken for markup."""

    title: str
    sections: dict[str, list[Part]]


def as_html(document: Document) -> str:
    """One page that needs nothing beside it and no network."""
    charts = (p for parts in document.sections.values() for p in parts if isinstance(p, Chart))
    first = next(charts, None)  # has the library with it, once for all
    title = escape(document.title)
    policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>",
    ]
    for heading, content in document.sections.items():
        parts.append(f"<h2>{escape(heading)}</h2>")
        parts += [_html(part, part is first) for part in content]
    return "\n".join([*parts, "</body></html>\n"])


def _html(part: Part, library: bool) -> str:
    if isinstance(part, Text):
        return f"<p>{escape(part.words)}</p>"
    if isinstance(part, Table):
        return _html_table(part)
    caption = f"<figcaption>{escape(part.caption)}</figcaption>"
    if isinstance(part, Chart):
        config = CHART | {"responsive": True}
        chart = part.figure.to_html(full_html=False, include_plotlyjs=library, config=config)
        return f"<figure>{chart}{caption}</figure>"
    data = b64encode(part.png).decode()
    picture = f'<img src="data:image/png;base64,{data}" alt="{escape(part.caption)}">'
    return f"<figure>{picture}{caption}</figure>"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = []
    for r, row in enumerate(table.rows):
        cells = [_html_cell(table, r, c, text) for c, text in enumerate(row)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(rows) + "\n</table></div>"


def _html_cell(table: Table, row: int, column: int, text: str) -> str:
    tone = table.tones.get((row, column))
    told = f"<code>{escape(text)}</code>" if column in table.code else escape(text)
    told = f"<b>{told}</b>" if (row, column) in table.bold else told
    return f'<td class="{tone}">{told}</td>' if tone else f"<td>{told}</td>"


def as_markdown(document: Document) -> str:
    """The words and the tables; of pictures and charts the captions."""
    lines = [f"# {marked(document.title)}"]
    for heading, content in document.sections.items():
        lines += ["", f"## {marked(heading)}"]
        for part in content:
            lines += ["", _markdown(part)]
    return "\n".join(lines) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, Text):
        return marked(part.words)
    if isinstance(part, Table):
        return markdown_table(part)
    kind = "picture" if isinstance(part, Picture) else "chart"
    return f"*{kind}, in the HTML report: {marked(part.caption)}*"


def markdown_table(table: Table) -> str:
    """A table of GitHub's Markdown, without a newline behind it."""
    lines = [_markdown_row([marked(name) for name in table.head]), "|" + "---|" * len(table.head)]
    for r, row in enumerate(table.rows):
        lines.append(_markdown_row([_markdown_cell(table, r, c, t) for c, t in enumerate(row)]))
    return "\n".join(lines)


def _markdown_cell(table: Table, row: int, column: int, text: str) -> str:
    code = column in table.code and not MARKS_OF_CODE.search(text)
    told = f"`{text}`" if code else marked(text)
    return f"**{told}**" if (row, column) in table.bold else told


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def marked(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return MARKS.sub(r"\\\1", " ".join(text.split()))
