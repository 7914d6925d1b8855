"""Packages that not everybody has installed."""

from importlib import import_module
from types import ModuleType

from src.utils.errors import UserError


def extra(package: str) -> ModuleType:
    """Import ``gymnasium`` or ``ale_py``.

    Raises:
        UserError: it is not installed; the sentence says how to install it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(
            f"environments need {package.replace('_', '-')}, "
            "which comes with the extra 'atari': pip install 'latent-lab[atari]'"
        ) from error
