"""``python -m src.runs [root]`` lists runs; ``python -m src.runs pause|resume|stop <run>`` asks one for something."""

import sys

from rich.console import Console
from rich.table import Table

from src.runs import list_runs, request
from src.utils.errors import UserError


def main(arguments: list[str]) -> None:
    """List the runs, or pass a request on."""
    if len(arguments) == 2:
        request(arguments[1], arguments[0])
        print(f"asked {arguments[1]} to {arguments[0]}")
        return
    table = Table("run", "state", "epoch", "step", "test/nll", "test/mse")
    for run in list_runs(*arguments):
        progress, metrics = run.info.get("progress", {}), run.results.get("metrics", {})
        shown = [
            f"{metrics[name]['value']:.4g}"
            if metrics.get(name, {}).get("value") is not None
            else ""
            for name in ("test/nll", "test/mse")
        ]
        table.add_row(
            str(run.path),
            run.state,
            str(progress.get("epoch", "")),
            str(progress.get("step", "")),
            *shown,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
