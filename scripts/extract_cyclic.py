"""Take the closed loops out of the original sprites: ``python scripts/extract_cyclic.py train_path=… test_path=…``."""

from typing import Any

from src.utils.main import entry_point


@entry_point("extract_cyclic")
def extract(cfg: Any) -> None:
    """Extract from both files, say what was written, and compare the two."""
    from pathlib import Path

    from rich.console import Console

    from src.datamodules.extraction import comparison, extract_cyclic

    found = {}
    for split, path in (("train", cfg.train_path), ("test", cfg.test_path)):
        found[split] = extract_cyclic(
            Path(path), split, Path(cfg.output_dir), cfg.threshold, cfg.max_examples
        )
        for file in found[split].files:
            print(file)
    Console().print(comparison(found))


if __name__ == "__main__":
    extract()
