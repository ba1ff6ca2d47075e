"""Recordings in words and pictures, for both the page and the terminal.

Reads records and what is computed from them, never a model: no torch, no gradio.
"""
