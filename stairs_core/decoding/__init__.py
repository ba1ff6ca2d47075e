"""The loop and its parts: verification, acceptance, sampling, draft lengths, the recorder.

Knows no drafter by name. Models are loaded in ``models``, runs compared in ``measuring``.
"""
