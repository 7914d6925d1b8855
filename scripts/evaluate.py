"""Test a run again: ``python scripts/evaluate.py run=logs/…``."""

from typing import Any

from src.utils.main import entry_point


@entry_point("evaluate")
def evaluate(cfg: Any) -> None:
    """Write results.json and figures of the run's best weights."""
    from src.experiment import evaluate_run

    evaluate_run(cfg)


if __name__ == "__main__":
    evaluate()
