"""Trackers: TensorBoard, W&B, MLflow and Lightning's others, told everything and trusted with nothing."""

from src.callbacks.trackers.facts import RunFacts
from src.callbacks.trackers.guard import Tracker, close, is_first, open_trackers, trackers

__all__ = ["RunFacts", "Tracker", "close", "is_first", "open_trackers", "trackers"]
