"""The frame around every page: which pages there are, and the sidebar."""

from pathlib import Path

import streamlit as st

from src.app.sidebar import sidebar

# A picture of our own: one of Streamlit's names would be asked for at another site.
ICON = Path(__file__).with_name("icon.png")
# Streamlit leaves six lines free above a page, and more at its sides than a phone has to give.
STYLE = """<style>
.stMainBlockContainer { padding: 3.2rem clamp(1rem, 3vw, 3rem) 4rem; }
</style>"""


def main() -> None:
    """Show the page that the address names. A page is imported when it is opened: some of them need torch."""
    st.set_page_config(page_title="Latent Lab", page_icon=ICON, layout="wide")
    st.html(STYLE)
    chosen = st.navigation(pages())
    sidebar()
    chosen.run()


def pages() -> list[st.Page]:
    """All pages, in the order of the menu."""
    return [
        st.Page(
            _overview, title="Overview", icon=":material/home:", url_path="overview", default=True
        ),
        st.Page(
            _experiments, title="Experiments", icon=":material/science:", url_path="experiments"
        ),
        st.Page(_explorer, title="Latent explorer", icon=":material/tune:", url_path="explorer"),
        st.Page(
            _inference, title="Inference", icon=":material/image_search:", url_path="inference"
        ),
        st.Page(_compare, title="Compare", icon=":material/compare:", url_path="compare"),
        st.Page(_gallery, title="Gallery", icon=":material/photo_library:", url_path="gallery"),
        st.Page(_sweeps, title="Sweeps", icon=":material/query_stats:", url_path="sweeps"),
    ]


def _overview() -> None:
    from src.app.overview import page

    page()


def _experiments() -> None:
    from src.app.experiments import page

    page()


def _explorer() -> None:
    from src.app.explorer import page

    page()


def _inference() -> None:
    from src.app.inference import page

    page()


def _compare() -> None:
    from src.app.compare import page

    page()


def _gallery() -> None:
    from src.app.gallery import page

    page()


def _sweeps() -> None:
    from src.app.sweeps import page

    page()
