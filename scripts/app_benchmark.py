"""How soon the web app answers, measured in a browser, and what its memory does; for scripts/benchmark.py."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from app_browser import ROOT, App, browser, settled
from app_latency import BOARD, memory_over_moves, slider_latency
from jobs_benchmark import run
from playwright.sync_api import Browser, Page

Table = tuple[list[str], list[list[str]]]
PAGES = {
    "Overview": "",
    "Experiments": "experiments",
    "Latent explorer": "explorer",
    "Inference": "inference",
    "Compare": "compare",
    "Gallery": "gallery",
    "Sweeps": "sweeps",
}
# A model of 64×64 pictures in colour with 32 dimensions; how well it is trained makes no difference to these times.
MODEL = (
    "model=vae",
    "model/encoder=conv",
    "model/decoder=conv",
    "model.latent_dim=32",
    "data=images",
    "data.path=x.npz",
    "trainer.max_epochs=1",
    "features=none",
    "logger=none",
    "importance_samples=2",
    "name=benchmark",
)


def table(starts: int = 3, moves: int = 200, kept: int = 1000, every: int = 250) -> Table:
    """First page, every page, from slider to picture, and memory.

    Args:
        starts: of the server, whose median is told.
        moves: of a slider that are timed.
        kept: moves over which the memory is watched.
        every: moves between two looks at it.
    """
    with tempfile.TemporaryDirectory() as temporary, browser() as chromium:
        folder = Path(temporary)
        trained(folder)
        app, bare = App(folder / "logs", folder / "server.log"), empty(folder)
        try:
            rows = [["import of all pages, without torch", seconds(importing(starts)), ""]]
            rows += starting(app, bare, chromium, starts)
            rows += [[*row, ""] for row in opening(app, chromium)]
            page = chromium.new_page()
            page.goto(app.url("explorer"))
            page.wait_for_selector(f"{BOARD}[data-painted]")
            rows += moving(page, app, moves, kept, every)
        finally:
            app.kill()
            bare.kill()
    return ["the app", "measured", "target"], rows


def seconds(number: float) -> str:
    """As a cell."""
    return f"{number:.2f} s"


def target(measured: float, most: float, unit: str) -> str:
    """What is aimed at, and whether it is missed."""
    return f"< {most} {unit}" + (", missed" if measured >= most else "")


def trained(folder: Path) -> None:
    """A run in ``folder/logs``, of one epoch over pictures that are noise."""
    pictures = np.random.default_rng(0).integers(0, 256, (256, 3, 64, 64), np.uint8)
    np.savez(folder / "x.npz", train=pictures, val=pictures[:32], test=pictures[:64])
    run([*MODEL, f"hydra.run.dir={folder / 'logs' / 'benchmark' / 'run'}"], folder)


def importing(times: int) -> float:
    """Wall time of a process that imports every module of the app."""
    code = (
        "import importlib, pkgutil, src.app\n"
        "for module in pkgutil.iter_modules(src.app.__path__): importlib.import_module(f'src.app.{module.name}')"
    )
    return median(timed_process([sys.executable, "-c", code]) for _ in range(times))


def timed_process(command: list[str]) -> float:
    """Wall time of a process in seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def empty(folder: Path) -> App:
    """An app of one table of one cell: what Streamlit and the browser take for themselves."""
    place = folder / "empty"
    shutil.copytree(ROOT / ".streamlit", place / ".streamlit")
    entry = place / "app.py"
    entry.write_text('import streamlit as st\n\nst.dataframe([{"cell": 1}])\n')
    return App(folder / "logs", folder / "empty.log", entry)


def starting(app: App, bare: App, chromium: Browser, starts: int) -> list[list[str]]:
    """The first page of both apps, in turn."""
    found: list[list[float]] = [[], []]
    for _ in range(starts):
        found[0].append(first_page(bare, chromium))
        bare.kill()
        found[1].append(first_page(app, chromium))
        app.kill()
    app.start()
    floor, first = map(median, found)
    return [
        ["from the server's start to a table of one cell, alone on its page", seconds(floor), ""],
        ["from the server's start to the table of runs", seconds(first), target(first, 3, "s")],
    ]


def first_page(app: App, chromium: Browser) -> float:
    """Seconds from the start of the server until a browser that was open before shows the table of runs."""
    page = chromium.new_page()
    start = time.perf_counter()
    app.start()
    page.goto(app.url())
    page.get_by_test_id("stDataFrame").first.wait_for()
    passed = time.perf_counter() - start
    settled(page)
    page.context.close()
    return passed


def opened(page: Page, address: str) -> float:
    """Seconds until a page is there as a whole."""
    start = time.perf_counter()
    page.goto(address)
    page.get_by_role("heading", level=1).wait_for()
    settled(page)
    return time.perf_counter() - start


def opening(app: App, chromium: Browser) -> list[list[str]]:
    """Every page: opened for the first time since the server's start, then in another window."""
    rows = []
    for name, path in PAGES.items():
        found = []
        for _ in range(2):
            page = chromium.new_page()
            found.append(opened(page, app.url(path)))
            page.context.close()
        rows.append([f"{name}: opened first, then again", " and ".join(map(seconds, found))])
    return rows


def moving(page: Page, app: App, moves: int, kept: int, every: int) -> list[list[str]]:
    """From a slider to its picture, and the server's memory over many moves."""
    found = slider_latency(page, moves)
    late = quantiles(found, n=10)[-1]
    memory = memory_over_moves(page, app.pid, kept, every)
    across = ", ".join(f"{one:.0f}" for one in memory)
    return [
        [
            f"slider to picture, median of {moves}",
            f"{median(found):.0f} ms",
            target(median(found), 150, "ms"),
        ],
        [f"slider to picture, 9 of 10 of {moves}", f"{late:.0f} ms", ""],
        [f"the server's memory, every {every} of {kept} moves", f"{across} MB", "flat"],
    ]
