"""The app as a process of its own and a browser that looks at it: for tests, pictures and benchmarks."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
# Nothing is looked for in the network, and what a machine without a screen has not is not asked for.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
PATIENCE_S = 60.0


class App:
    """``streamlit run app.py`` over some logs, on a port of its own, in a session of its own.

    Args:
        logs: where its runs lie.
        output: a file for what it prints.
        entry: what Streamlit runs, beside its ``.streamlit``.
    """

    def __init__(self, logs: Path, output: Path, entry: Path = ROOT / "app.py") -> None:
        self.logs, self.output, self.entry = logs, output, entry
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> float:
        """Start the server and wait until it answers; seconds that this took.

        Raises:
            RuntimeError: it ends, or does not answer within ``PATIENCE_S``; none is left behind.
        """
        command = [sys.executable, "-m", "streamlit", "run", str(self.entry)]
        command.append(f"--server.port={self.port}")
        begin = time.perf_counter()
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.entry.parent,
                env=os.environ | {"LATENT_LAB_LOGS": str(self.logs), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        while not self.listens():
            if self.process.poll() is not None or time.perf_counter() - begin > PATIENCE_S:
                self.kill()
                said = self.output.read_text(errors="replace")
                raise RuntimeError(f"the app does not start:\n{said[-3000:]}")
            time.sleep(0.02)
        return time.perf_counter() - begin

    def listens(self) -> bool:
        """Whether somebody answers at its port."""
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0

    def addresses(self) -> set[str]:
        """The addresses of this machine at which the server can be reached."""
        found = psutil.Process(self.pid).net_connections("inet")
        return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}

    def has_torch(self) -> bool:
        """Whether the server has loaded torch's libraries."""
        return "libtorch" in Path(f"/proc/{self.pid}/maps").read_text()

    def kill(self) -> None:
        """End the server at once, as nothing that it could prepare for."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait()

    def url(self, page: str = "", **address: str | list[str]) -> str:
        """Where a page is, with what is chosen on it."""
        asked = f"?{urlencode(address, doseq=True)}" if address else ""
        return f"http://127.0.0.1:{self.port}/{page}{asked}"


def chromium_program() -> str | None:
    """Where this machine has Chromium; None where it has none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a screen.

    Raises:
        RuntimeError: there is none.
    """
    program = chromium_program()
    if program is None:
        raise RuntimeError("there is no chromium on this machine: apt install chromium")
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        try:
            yield one
        finally:
            one.close()


def settled(page: Page, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the page's script has run to its end, and nothing on it is outdated."""
    page.wait_for_selector(READY, timeout=1000 * timeout_s)
    page.wait_for_function(
        "() => !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')",
        timeout=1000 * timeout_s,
    )


def is_too_wide(page: Page) -> bool:
    """Whether one has to scroll sideways to see all of the page."""
    return bool(
        page.evaluate(
            "() => [document.documentElement, document.querySelector('[data-testid=stMain]')]"
            ".some((one) => one && one.scrollWidth > one.clientWidth + 1)"
        )
    )
