"""Write hand poses as files that are read fast: ``python scripts/prepare_hands.py data.source=files data.path=…``."""

from typing import Any

from src.utils.main import entry_point


@entry_point("prepare_hands")
def prepare(cfg: Any) -> None:
    """Write them and say what was written."""
    from pathlib import Path

    from src.datamodules.hand_export import write_poses
    from src.utils.build import build

    for line in write_poses(build(cfg.data), Path(cfg.output_dir), cfg["as"]):
        print(line)


if __name__ == "__main__":
    prepare()
