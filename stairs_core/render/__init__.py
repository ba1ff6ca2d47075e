"""Recordings drawn: the page, its figures, the terminal. Imports neither torch nor gradio."""
