"""Mend poses with hidden or noisy joints: ``python scripts/complete_hands.py run=logs/… hidden=thumb``."""

from typing import Any

from src.utils.main import entry_point


@entry_point("complete_hands")
def complete_hands(cfg: Any) -> None:
    """Print errors beside those of simpler priors, and write them and a figure into the run's completion/."""
    from src.experiment.completion import complete_run

    complete_run(cfg)


if __name__ == "__main__":
    complete_hands()
