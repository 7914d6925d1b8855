"""What every page shows at its side: this machine, and what works on it."""


def sidebar() -> None:
    """Device, memory and running jobs."""
