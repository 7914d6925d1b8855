"""Runs: read, list, control and safely load them. Importing this package imports no torch."""

from src.runs.control import PAUSE, RESUME, STOP, request
from src.runs.loading import load_energy, load_model
from src.runs.reading import Run, list_runs, read_run

__all__ = [
    "PAUSE",
    "RESUME",
    "STOP",
    "Run",
    "list_runs",
    "load_energy",
    "load_model",
    "read_run",
    "request",
]
