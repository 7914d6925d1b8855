"""Pictures of every page of the app, for docs/app.md.

``python scripts/screenshots.py logs --run sprites/… --compare vae_digits/… beta_vae_digits/…`` writes each page as
docs/pictures/app_<page>.png, and two of them in a phone's width as app_<page>_phone.png, in 128 colours.
"""

import argparse
import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from app_browser import ROOT, App, browser, settled
from PIL import Image
from playwright.sync_api import Browser

PICTURES = ROOT / "docs" / "pictures"
WIDE, PHONE = (1280, 900), (390, 844)
TAKE = "Take its code"
LARGEST = 200_000  # bytes of a picture
REST_MS = 3000  # until charts have been drawn


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: of the file.
        page: its address.
        address: what is chosen on it.
        pressed: a button that is pressed first.
        size: of the window, in pixels.
    """

    name: str
    page: str
    address: dict[str, str | list[str]] = field(default_factory=dict)
    pressed: str = ""
    size: tuple[int, int] = WIDE


def shots(run: str, compared: list[str]) -> list[Shot]:
    """Every page, with ``run`` on those that show one and ``compared`` side by side."""
    one: dict[str, str | list[str]] = {"run": run}
    return [
        Shot("overview", "", one),
        Shot("configure", "experiments", {"ex_tab": "Configure", "ex_arguments": "model=beta_vae"}),
        Shot("experiments", "experiments", one | {"ex_tab": "Run"}),
        Shot("explorer", "explorer", one, TAKE),
        Shot("slices", "explorer", one | {"ex_view": "Slices"}),
        Shot("inference", "inference", one),
        Shot("compare", "compare", {"cmp_runs": compared}),
        Shot("gallery", "gallery", one),
        Shot("sweeps", "sweeps"),
        Shot("overview_phone", "", one, size=PHONE),
        Shot("explorer_phone", "explorer", one, TAKE, PHONE),
    ]


def take(shot: Shot, app: App, chromium: Browser) -> bytes:
    """The page as a PNG of at most ``LARGEST`` bytes."""
    page = chromium.new_page(viewport={"width": shot.size[0], "height": shot.size[1]})
    page.goto(app.url(shot.page, **shot.address))
    page.get_by_role("heading", level=1).wait_for()
    settled(page)
    if shot.pressed:
        page.get_by_role("button", name=shot.pressed).click()
    page.wait_for_timeout(REST_MS)
    settled(page)
    taken = page.screenshot()
    page.close()
    return palette(taken)


def palette(png: bytes) -> bytes:
    """The same picture in so many colours as it may have."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (128, 64, 32, 16):
        file = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", type=Path, help="the runs that the app shows")
    parser.add_argument("--run", required=True, help="the run on pages that show one, below logs")
    parser.add_argument("--compare", nargs="+", required=True, help="runs that are compared")
    parser.add_argument("--only", nargs="*", help="names of pictures, where not all are wanted")
    parser.add_argument("--to", type=Path, default=PICTURES, help="where the pictures go")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        app = App(arguments.logs, Path(folder) / "server.log")
        app.start()
        try:
            for shot in shots(arguments.run, arguments.compare):
                if arguments.only and shot.name not in arguments.only:
                    continue
                file = arguments.to / f"app_{shot.name}.png"
                file.write_bytes(take(shot, app, chromium))
                print(f"{file}  {file.stat().st_size / 1000:.0f} kB")
        finally:
            app.kill()


if __name__ == "__main__":
    main()
