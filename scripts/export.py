"""Write a run's encoder and decoder for other programs: ``python scripts/export.py run=logs/… format=onnx``."""

from typing import Any

from src.utils.main import entry_point


@entry_point("export")
def export(cfg: Any) -> None:
    """Export, compare with the model itself, and say what was written."""
    from pathlib import Path

    from src.evaluation.export import export_model
    from src.runs import load_model

    for path, difference in export_model(
        load_model(cfg.run), Path(cfg.output), cfg.format, cfg.tolerance
    ):
        print(f"{path}  largest difference from the model: {difference:.2g}")


if __name__ == "__main__":
    export()
