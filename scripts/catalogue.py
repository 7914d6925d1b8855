"""Write docs/models.md from conf/model: ``python scripts/catalogue.py``."""

from src.evaluation.catalogue import page
from src.runs.record import write_atomic
from src.utils.main import ROOT

if __name__ == "__main__":
    write_atomic(ROOT / "docs" / "models.md", page())
