"""How quickly the live board of the latent explorer follows a slider, and what the server's memory does meanwhile.

Measured inside of the browser: from the ``input`` event of a slider to the first frame with the new picture.
"""

from typing import Any

import psutil

# What a browser has to open: the explorer's page of a run, with its live board.
BOARD = "[data-testid=board]"
PATIENCE_MS = 120_000
# A board from the slider's event to the frame after its picture has loaded: the board notes the answer that is shown.
_MOVE = """
(board, [moves, lowest, highest, patience]) => new Promise((resolve, reject) => {
  const slider = board.querySelector(".rows .row:not([hidden]) input[type=range][data-list=mu]");
  const found = [];
  let [start, late] = [0, 0];
  const move = () => {
    clearTimeout(late);
    late = setTimeout(() => reject(new Error(`no picture after ${patience} ms`)), patience);
    const share = ((found.length * 37) % 101) / 100;
    slider.value = lowest + share * (highest - lowest);
    start = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true, composed: true }));
  };
  const observer = new MutationObserver(() => requestAnimationFrame(() => {
    found.push(performance.now() - start);
    if (found.length < moves) return setTimeout(move, 0);
    observer.disconnect();
    clearTimeout(late);
    resolve(found);
  }));
  observer.observe(board, { attributeFilter: ["data-painted"] });
  move();
})
"""


def slider_latency(page: Any, moves: int = 200, warm: int = 10) -> list[float]:
    """From slider to picture, ms, of ``moves`` moves one after another.

    Args:
        page: of playwright, at the explorer's live board in mode N(μ, σ²).
        moves: how many are measured.
        warm: moves before them that are not.

    Raises:
        playwright.sync_api.Error: a picture does not come within ``PATIENCE_MS``.
    """
    board = page.wait_for_selector(f"{BOARD}[data-painted]", timeout=PATIENCE_MS)
    board.evaluate(_MOVE, [warm, -3, 3, PATIENCE_MS])
    return board.evaluate(_MOVE, [moves, -3, 3, PATIENCE_MS])


def server_memory(pid: int) -> float:
    """What a server's process has in memory, MB."""
    return psutil.Process(pid).memory_info().rss / 1e6


def memory_over_moves(page: Any, pid: int, moves: int = 1000, every: int = 250) -> list[float]:
    """The server's memory before and after every ``every`` of ``moves`` moves of a slider, MB."""
    slider_latency(page, 1, 50)
    found = [server_memory(pid)]
    for _ in range(moves // every):
        slider_latency(page, every, 1)
        found.append(server_memory(pid))
    return found
