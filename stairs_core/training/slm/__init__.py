"""LLM-to-SLM, behind ``stairs train slm``: a small model learns to read prompts with a large one's
help.

Prompts and their responses, the projector with the small model as one module, and the command. The
loop is that of the heads.
"""
