"""Our loop inside other libraries: ``custom_generate`` for transformers' ``generate``.

What the other library asks for and returns is known here and nowhere else.
"""
