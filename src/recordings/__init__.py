"""Recordings of episodes: write, read, list and pack them. Importing this package imports no torch."""

from src.recordings.listing import find_recordings
from src.recordings.recording import Recording
from src.recordings.writer import RecordingWriter

__all__ = ["Recording", "RecordingWriter", "find_recordings"]
