"""Worlds to record: two of ours, registered with gymnasium when they are asked for, and the games of ale-py."""

from src.recordings.environments.names import Game, identify, register_environments

__all__ = ["Game", "identify", "register_environments"]
