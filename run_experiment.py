"""Compose → build → fit → test → results. ``python run_experiment.py --help`` shows what can be chosen."""

from typing import Any

from src.jobs import register_plugins
from src.utils.main import entry_point


@entry_point()
def run_experiment(cfg: Any) -> Any:
    """Train what ``cfg`` describes and return the metric it names."""
    from src.experiment import (
        train,  # torch and Lightning are imported only when something is to be trained
    )

    return train(cfg)


register_plugins()
if __name__ == "__main__":
    run_experiment()
