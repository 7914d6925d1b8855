"""Record episodes, ``python scripts/record.py env=breakout episodes=100``, or convert some, ``from=lerobot path=…``."""

import sys
from typing import Any

from src.utils.main import entry_point


@entry_point("record")
def record(cfg: Any) -> None:
    """Record what is missing of a collection, or convert a dataset."""
    from src.recordings.command import record

    record(cfg)


if __name__ == "__main__":
    # Which settings an environment has is known to it alone, so that none of them is in the config.
    sys.argv[1:] = [f"++{word}" if word.startswith("env_args.") else word for word in sys.argv[1:]]
    record()
