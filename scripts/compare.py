"""Compare finished runs over their seeds: ``python scripts/compare.py runs=logs/riemannian_study``."""

from typing import Any

from src.utils.main import entry_point


@entry_point("compare")
def compare(cfg: Any) -> None:
    """Write a table with confidence intervals, and pictures side by side."""
    from src.evaluation.comparing.run_report import write_comparison

    for path in write_comparison(cfg.runs, cfg.output, cfg.metrics, cfg.pictures, cfg.rows):
        print(path)


if __name__ == "__main__":
    compare()
