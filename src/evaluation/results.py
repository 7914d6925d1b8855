"""What a test is compared on, and its numbers beside their trivial baselines, as a dict and as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from src.evaluation.units import HIGHER_IS_BETTER, LOWER_IS_BETTER, UNITS, in_order

# A column of train and test, where the data has one.
Both = tuple[Tensor, Tensor] | None
# Row → column → number.
Numbers = dict[str, dict[str, float]]
# What the tables of details say of themselves.
TITLES = {
    "joints": "joints: MPJRE, degrees",
    "negatives": "negatives: how well the energy, in nats, tells poses that are none from data",
}


@dataclass(frozen=True)
class Compared:
    """What a model and its baselines are compared on.

    Attributes:
        train, test: (N, *shape) as the model sees them.
        labels: of train and test, where there are any.
        factors: (N, F) of train and test, where they are known.
        background: (*shape) of frames, else None.
        components: sizes of linear codes to compare with, beside the model's own.
        rotations: whether the data are poses, rows of 3 numbers being rotation vectors in radians.
    """

    train: Tensor
    test: Tensor
    labels: Both = None
    factors: Both = None
    background: Tensor | None = None
    components: Sequence[int] = ()
    rotations: bool = False


@dataclass
class Report:
    """The result of an evaluation.

    Attributes:
        values: metric → value.
        baselines: baseline → metric → value.
        warnings: what a reader must know.
        facts: how some of the values came about.
        details: further tables, each under its own key of ``results.json``.
        units: of metrics that have not the unit in ``UNITS`` here.
    """

    values: dict[str, float]
    baselines: Numbers = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Numbers] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def unit(self, name: str) -> str:
        """Of a metric; a term of an objective that ``UNITS`` does not know is in nats."""
        return self.units.get(name) or UNITS.get(name, "nats")

    def sort(self) -> None:
        """Put the values into the order of ``UNITS``, and behind them what it does not know."""
        self.values = {name: self.values[name] for name in in_order(self.values)}

    def as_dict(self, stage: str = "test") -> dict[str, Any]:
        """The content of ``results.json``."""
        rows = {
            f"{stage}/{name}": {
                "value": value,
                "unit": self.unit(name),
                "baselines": {
                    baseline: found[name]
                    for baseline, found in self.baselines.items()
                    if name in found
                },
            }
            for name, value in self.values.items()
        }
        return {"metrics": rows, "warnings": self.warnings, **self.facts, **self.details}

    def table(self, title: str) -> Table:
        """One row a metric, one column a baseline; the best of a row is bold where one way is better."""
        table = Table(
            Column("metric", no_wrap=True),
            Column("unit", no_wrap=True),
            "this model",
            *self.baselines,
            title=title,
            title_justify="left",
        )
        for name, value in self.values.items():
            others = [found.get(name) for found in self.baselines.values()]
            table.add_row(name, self.unit(name), *_cells(name, [value, *others]))
        return table

    def tables(self, title: str) -> list[Table]:
        """The table of the metrics, and those of the details."""
        return [self.table(title), *(_detail(key, rows) for key, rows in self.details.items())]

    def text(self, title: str) -> str:
        """The tables and the warnings as plain text.

        Pictures have three lines above them, in the words and units in which Atari VAEs are compared elsewhere.
        """
        lines = []
        if {"mse", "psnr", "pixel_accuracy"} <= self.values.keys():
            lines = [
                f"MSE: {self.values['mse']:.6f}",
                f"PSNR: {self.values['psnr']:.2f} dB",
                f"Accuracy (±0.1): {100 * self.values['pixel_accuracy']:.2f} %",
                "",
            ]
        for table in self.tables(title):
            with (console := Console(width=table_width(table), no_color=True)).capture() as shown:
                console.print(table)
            lines.append(shown.get())
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings)])


def _cells(name: str, numbers: Sequence[float | None]) -> list[str]:
    """A row's numbers as text; the best of several is bold."""
    known = [number for number in numbers if number is not None]
    best = None
    if len(known) > 1 and name in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        best = (min if name in LOWER_IS_BETTER else max)(known)
    return [
        "—" if number is None else f"[bold]{number:.4g}[/]" if number == best else f"{number:.4g}"
        for number in numbers
    ]


def _detail(key: str, rows: Numbers) -> Table:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(Column("", no_wrap=True), *columns, title=TITLES.get(key, key))
    table.title_justify = "left"
    for name, row in rows.items():
        table.add_row(name, *(f"{row[c]:.4g}" if c in row else "—" for c in columns))
    return table


def table_width(table: Table) -> int:
    """Columns that a report takes: cut off at 80 it would hide its numbers."""
    return 44 + sum(max(14, len(str(column.header)) + 3) for column in table.columns[2:])
