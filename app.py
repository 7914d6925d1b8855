"""The web app's entry; ``make app`` or ``streamlit run app.py``."""

from src.app.shell import main

main()
