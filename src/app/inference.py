"""Not built yet."""

import streamlit as st


def page() -> None:
    """To come."""
    st.title("inference")
