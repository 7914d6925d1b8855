"""The frame around every page: which pages there are, and the sidebar."""

from functools import partial
from importlib import import_module
from pathlib import Path

import streamlit as st

from src.app.sidebar import sidebar

# Module of src.app, whose name is the page's address too → title and icon in the menu.
PAGES = {
    "overview": ("Overview", ":material/home:"),
    "experiments": ("Experiments", ":material/science:"),
    "explorer": ("Latent explorer", ":material/tune:"),
    "inference": ("Inference", ":material/image_search:"),
    "compare": ("Compare", ":material/compare:"),
    "gallery": ("Gallery", ":material/photo_library:"),
    "sweeps": ("Sweeps", ":material/query_stats:"),
}
FIRST = "overview"
# A picture of our own: one of Streamlit's names would be asked for at another site.
ICON = Path(__file__).with_name("icon.png")
# Streamlit leaves six lines free above a page, and more at its sides than a phone has to give.
STYLE = """<style>
.stMainBlockContainer { padding: 3.2rem clamp(1rem, 3vw, 3rem) 4rem; }
</style>"""


def main() -> None:
    """Show the page that the address names. A page is imported when it is opened, so that none waits for the others."""
    st.set_page_config(page_title="Latent Lab", page_icon=ICON, layout="wide")
    st.html(STYLE)
    chosen = st.navigation(pages())
    sidebar()
    chosen.run()


def pages() -> list[st.Page]:
    """All pages, in the order of the menu."""
    return [
        st.Page(partial(_show, name), title=title, icon=icon, url_path=name, default=name == FIRST)
        for name, (title, icon) in PAGES.items()
    ]


def _show(name: str) -> None:
    import_module(f"src.app.{name}").page()
