"""The web app as a person has it: a server, a browser, and clicks, beginning with no run at all."""

import json
import re
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from scripts.app_browser import App, browser, chromium_program, is_too_wide, settled
from scripts.app_latency import memory_over_moves, slider_latency
from src.runs import Run, list_runs, read_run, request
from src.runs.queue import cancel, jobs
from src.runs.reading import ALIVE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MENU = ("Overview", "Experiments", "Latent explorer", "Inference", "Compare", "Gallery", "Sweeps")
ENDLESS = "seed=3 trainer.max_epochs=100000 callbacks.early_stopping.patience=100000 logger=none"
SHORT = "seed=2 trainer.max_epochs=3 logger=none"
PATIENCE_MS = 90_000
BOARD = "[data-testid=board][data-painted]"
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app over a folder of logs that does not exist yet."""
    folder = tmp_path_factory.mktemp("app")
    one = App(folder / "logs", folder / "server.log")
    one.start()
    yield one
    one.kill()
    for job in jobs(one.logs):
        if job.state == "waiting":
            cancel(one.logs, job.id)
    for run in list_runs(one.logs):
        if run.state in ALIVE:
            request(run.path, "stop")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window on the screen."""
    if chromium_program() is None:
        pytest.skip("the pages are looked at in chromium, which is not here: apt install chromium")
    with browser() as one:
        yield one


def window(chromium: Browser, width: int = 1280, height: int = 900) -> Page:
    """A window that shares nothing with another one."""
    page = chromium.new_context(
        viewport={"width": width, "height": height}, accept_downloads=True
    ).new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page


def go(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    settled(page)


def fact(page: Page, label: str) -> Locator:
    """The value of a number that is shown large."""
    shown = page.get_by_test_id("stMetric").filter(has_text=label)
    return shown.get_by_test_id("stMetricValue").first


def step(page: Page) -> int:
    return int(fact(page, "Step").inner_text())


def until(true: Callable[[], bool], seconds: float = PATIENCE_MS / 1000) -> None:
    """Wait for what no element of a page tells."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.1)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def in_state(page: Page, state: str) -> None:
    expect(fact(page, "State")).to_have_text(state)


def run_of(app: App, seed: int) -> Run:
    """The run with this seed, as soon as it has begun."""

    def found() -> list[Run]:
        runs = list_runs(app.logs)
        return [run for run in runs if f"seed={seed}" in run.info.get("overrides", [])]

    until(lambda: bool(found()))
    return found()[0]


def queue(app: App, page: Page, arguments: str) -> None:
    """Type arguments into the form of experiments, and start them."""
    box = page.get_by_role("textbox", name="Arguments")
    box.fill(arguments)
    box.press("Control+Enter")
    expect(page.locator("code").filter(has_text=arguments.split()[1])).to_be_visible()
    before = len(jobs(app.logs))
    press(page, "Start")
    until(lambda: len(jobs(app.logs)) == before + 1)


def answer_to(app: App, **headers: str) -> int:
    """The status with which the server answers who wants to talk to it as a page does."""
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    connection = HTTPConnection("127.0.0.1", app.port, timeout=10)
    connection.request("GET", "/_stcore/stream", headers=asked | headers)
    status = connection.getresponse().status
    connection.close()
    return status


def talk_to_this_machine_only(app: App) -> None:
    """Other machines do not reach the app, and other sites' pages do not through the browser of this one."""
    assert app.addresses() == {"127.0.0.1"}
    assert answer_to(app) == answer_to(app, Host=f"localhost:{app.port}") == 101
    assert answer_to(app, Host=f"evil.example:{app.port}") == 403
    assert answer_to(app, Origin="http://evil.example") == 403


def train_the_quick_example(app: App, page: Page) -> None:
    """From no runs to a curve that grows, by two clicks."""
    go(page, app.url())
    press(page, "Train the quick example")
    page.get_by_role("button", name="Follow").click()
    in_state(page, "running")
    chart = page.get_by_test_id("stVegaLiteChart").first
    expect(chart).to_be_visible()
    first, picture = step(page), chart.screenshot()
    until(lambda: step(page) > first and chart.screenshot() != picture)


def pause(app: App, page: Page) -> int:
    """The step at which the run on the page now stands still."""
    press(page, "Pause")
    in_state(page, "paused")
    (run,) = (run for run in list_runs(app.logs) if run.state in ALIVE)
    assert run.state == "paused"
    held = run.info["progress"]["step"]
    # The parts of a page are drawn one after the other.
    expect(fact(page, "Step")).to_have_text(str(held))
    page.wait_for_timeout(2500)
    assert step(page) == held == read_run(run.path).info["progress"]["step"]
    return held


def resume(page: Page, held: int) -> None:
    press(page, "Resume")
    in_state(page, "running")
    until(lambda: step(page) > held)


def kill_the_app_during_a_training(app: App, page: Page) -> None:
    """The run neither ends nor gets out of hand."""
    run = run_of(app, 3)
    until(lambda: read_run(run.path).info["progress"]["step"] > 0)
    app.kill()
    assert not app.listens()
    before = read_run(run.path)
    until(lambda: read_run(run.path).info["progress"]["step"] > before.info["progress"]["step"])
    app.start()
    go(page, app.url("experiments", run=str(run.path.relative_to(app.logs))))
    in_state(page, "running")
    assert read_run(run.path).info["pid"] == before.info["pid"]
    resume(page, pause(app, page))
    press(page, "Stop")
    in_state(page, "stopped")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    assert read_run(run.path).state == "stopped"
    until(lambda: all(job.state == "finished" for job in jobs(app.logs)))


def picture(page: Page) -> str:
    """What the board shows, as the bytes of its picture."""
    return page.get_by_test_id("board-picture").get_attribute("src") or pytest.fail("no picture")


def move_sliders(app: App, run: str, chromium: Browser) -> None:
    """A slider that a key moves changes the picture, in one window and not in the other."""
    ours, theirs = window(chromium), window(chromium)
    for page in (ours, theirs):
        go(page, app.url("explorer", run=run))
        page.wait_for_selector(BOARD)
    before = picture(theirs)
    seen = {picture(ours)}
    for row in (0, 1):
        slider = ours.locator("[data-testid^=board-row] input[type=range][data-list=mu]").nth(row)
        slider.focus()
        shown = picture(ours)
        for _ in range(12):
            ours.keyboard.press("ArrowRight")
        until(lambda shown=shown: picture(ours) != shown)  # type: ignore[misc]
        assert float(slider.input_value()) == pytest.approx(0.6)
        seen.add(picture(ours))
    assert len(seen) == 3
    theirs.wait_for_timeout(500)
    assert picture(theirs) == before
    ours.wait_for_url(re.compile("live_mu=[^&]*,"))
    go(theirs, ours.url)  # an address is shared with the sliders in it
    theirs.wait_for_selector(BOARD)
    until(lambda: picture(theirs) == picture(ours))
    assert len([one for one in slider_latency(ours, 5, 2) if one > 0]) == 5
    before, after = memory_over_moves(ours, app.pid, 20, 20)
    # In MB; how flat it stays is what scripts/benchmark.py app measures.
    assert abs(after - before) < 50
    for page in (ours, theirs):
        page.context.close()


def reach_a_slider_by_keys(app: App, run: str, page: Page) -> None:
    """From the top of the page, with the Tab key alone."""
    go(page, app.url("explorer", run=run))
    page.wait_for_selector(BOARD)
    shown = picture(page)
    focus = "() => { let one = document.activeElement; while (one?.shadowRoot?.activeElement) "
    focus += "one = one.shadowRoot.activeElement; return one?.dataset?.list ?? '' }"
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate(focus) == "mu":
            break
    else:
        pytest.fail("no slider is reached by 120 presses of Tab")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(lambda: picture(page) != shown)


def compare_and_download(app: App, names: list[str], page: Page) -> None:
    """The report of two runs holds the numbers of both."""
    go(page, app.url("compare", cmp_runs=names[0]))
    page.get_by_role("combobox", name="Runs").click()
    page.get_by_role("option", name=names[1]).click()
    page.keyboard.press("Escape")
    settled(page)
    page.get_by_test_id("stButtonGroup").get_by_text("Report", exact=True).click()
    html, markdown = (download(page, f"Download as {kind}") for kind in ("HTML", "Markdown"))
    for name in names:
        told = json.loads((app.logs / name / "results.json").read_text())["metrics"]
        for metric in ("test/mse", "test/kl"):
            value = told[metric]["value"]
            for text in (html, markdown):
                shown = [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]
                assert any(number == pytest.approx(value, rel=0.005) for number in shown), metric
        assert name in html
    assert "<img" in html and 'src="http' not in html


def download(page: Page, button: str) -> str:
    """The text of the file that a button gives."""
    with page.expect_download() as asked:
        press(page, button)
    return Path(asked.value.path()).read_text(encoding="utf-8")


def look_from_a_phone(app: App, run: str, chromium: Browser) -> None:
    """No page is wider than a phone, and none shows an exception."""
    page = window(chromium, 390, 844)
    for path in ("", "experiments", "explorer", "inference", "compare", "gallery", "sweeps"):
        go(page, app.url(path, run=run))
        assert not page.get_by_test_id("stException").count(), path
        assert not is_too_wide(page), path
    page.context.close()


def test_from_no_runs_to_a_report(chromium: Browser, app: App) -> None:
    page = window(chromium)
    talk_to_this_machine_only(app)
    train_the_quick_example(app, page)
    first = next(str(run.path.relative_to(app.logs)) for run in list_runs(app.logs))
    address, held = page.url, pause(app, page)
    go(page, app.url("experiments", ex_tab="Configure"))
    for arguments in (SHORT, ENDLESS):
        queue(app, page, arguments)
    assert [job.state for job in jobs(app.logs)] == ["running", "waiting", "waiting"]
    assert not app.has_torch()  # nor has it been for a long page of settings
    go(page, address)
    resume(page, held)
    in_state(page, "finished")
    move_sliders(app, first, chromium)
    assert app.has_torch()
    reach_a_slider_by_keys(app, first, page)
    kill_the_app_during_a_training(app, page)
    second = str(run_of(app, 2).path.relative_to(app.logs))
    compare_and_download(app, [first, second], page)
    look_from_a_phone(app, first, chromium)
    menu = page.get_by_test_id("stSidebarNav").get_by_role("link")
    assert [one.inner_text().split("\n")[-1] for one in menu.all()] == [*MENU]
    assert "Traceback" not in app.output.read_text()
