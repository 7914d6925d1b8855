"""One experiment: assembled from its config, trained and tested; a run tested again."""

from src.experiment.assembly import assemble
from src.experiment.evaluation import evaluate_run
from src.experiment.training import train

__all__ = ["assemble", "evaluate_run", "train"]
