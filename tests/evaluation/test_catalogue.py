"""docs/models.md is what conf/model says."""

from pathlib import Path

import pytest
import yaml

from src.evaluation.catalogue import HEADER, page, variants

ROOT = Path(__file__).parents[2]
FOUND = {variant.name: variant for variant in variants()}


def test_the_page_is_not_stale():
    written = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert written == page(), "run python scripts/catalogue.py"


def test_every_file_is_there_with_its_paper():
    assert set(FOUND) == {file.stem for file in (ROOT / "conf" / "model").glob("*.yaml")}
    assert all(variant.paper and variant.use and variant.parameters for variant in FOUND.values())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("vae", ()),
        ("beta_vae", ("objective.beta=4.0",)),
        ("vamp", ("prior vamp",)),
        ("two_stage_vae", ("sampler two_stage",)),
        ("rhvae", ("latent hamiltonian", "metric learned")),
    ],
)
def test_parts_are_what_differs_from_the_plain_vae(name, parts):
    assert FOUND[name].parts == parts


def test_a_file_without_its_two_lines_is_no_variant():
    assert HEADER.match("# A model.\ndefaults: [vae]\n") is None


def test_the_zoo_trains_every_image_variant():
    recipe = yaml.safe_load((ROOT / "conf" / "experiment" / "zoo_digits.yaml").read_text())
    trained = [name.strip() for name in recipe["hydra"]["sweeper"]["params"]["model"].split(",")]
    assert sorted(trained) == sorted(v.name for v in FOUND.values() if v.kind == "image")


def test_a_variant_is_a_short_file():
    """Names of parts and their settings: fifteen lines beside the two of its header."""
    for file in (ROOT / "conf" / "model").glob("*.yaml"):
        if file.stem != "vae":
            assert len(file.read_text(encoding="utf-8").splitlines()) <= 17, file.name
