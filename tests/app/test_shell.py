"""The frame around the pages: the menu, the sidebar, and what the app imports before a model is opened."""

import json
import os
import pkgutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest
from streamlit.testing.v1 import AppTest

import src.app
import src.app.sidebar
from src.app.shell import PAGES
from src.runs.machine import Gpu, Machine
from src.runs.queue_files import Job
from tests.app.conftest import at

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "lightning", "matplotlib", "sklearn", "src.models")


def shown() -> AppTest:
    return at(AppTest.from_file(str(ROOT / "app.py"), default_timeout=60))


def test_no_module_of_the_app_imports_torch() -> None:
    names = [f"src.app.{module.name}" for module in pkgutil.iter_modules(src.app.__path__)]
    assert len(names) > 8
    names += ["src.runs", "src.runs.summary", "src.runs.machine", "src.runs.curves"]
    code = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print(*set({HEAVY!r}) & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_every_page_of_the_menu_has_an_address_of_its_own() -> None:
    page = AppTest.from_string(
        "import streamlit as st\nfrom src.app.shell import pages\n"
        "for one in pages(): st.text(f'{one.title}: {one.url_path}')"
    ).run()
    assert [one.value for one in page.text] == [
        "Overview:",
        "Experiments: experiments",
        "Latent explorer: explorer",
        "Inference: inference",
        "Compare: compare",
        "Gallery: gallery",
        "Sweeps: sweeps",
    ]
    assert all(callable(import_module(f"src.app.{name}").page) for name in PAGES)


def test_the_sidebar_tells_of_the_machine_it_is_on(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Gpu("NVIDIA H200", 10**9, 10**11, 0.5), Gpu("A $ilent one", None, None, None))
    told = Machine(7, 0.25, 10**9, 4 * 10**9, 10**12, 3 * 10**12, gpus)
    monkeypatch.setattr(src.app.sidebar, "machine", lambda logs: told)
    src.app.sidebar._machine.clear()
    side = shown().sidebar
    said = "\n".join(str(one.value) for one in side.caption)
    bars = [one.proto.text for one in side.get("progress")]
    src.app.sidebar._machine.clear()
    assert "Load 0.2 on 7 CPU cores" in said
    assert r"A \$ilent one; its driver tells no memory" in said
    assert bars == [
        "NVIDIA H200, 50% busy: 1 GB of 100 GB",
        "Memory: 1 GB of 4 GB",
        "Disk of the logs: 2 TB of 3 TB",
    ]
    assert "Nothing runs and nothing waits." in said


def test_the_sidebar_links_to_what_lives_and_counts_what_waits(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = psutil.Process()
    run = logs / "a_b" / "1"
    run.mkdir(parents=True)
    process = {"host": os.uname().nodename, "pid": own.pid, "pid_started": own.create_time()}
    content = process | {"state": "running", "progress": {"fraction": 0.25}, "started": time.time()}
    (run / "run.json").write_text(json.dumps(content))
    began = {"pid": own.pid, "pid_started": own.create_time()}
    listed = [
        Job("1", [], "running", **began),  # the run above is its own
        Job("2", [], "running"),
        Job("3", [], "waiting"),
        Job("4", [], "finished"),
    ]
    monkeypatch.setattr(src.app.sidebar, "jobs", lambda root: listed)
    side = shown().sidebar
    (link,) = (one.proto for one in side.get("page_link"))
    assert link.label == r"a\_b/1" and link.query_string == "run=a_b%2F1"
    assert side.get("progress")[0].proto.text == "running, 25%"
    assert "In the queue: 1 starting, 1 waiting" in [one.value for one in side.caption]
