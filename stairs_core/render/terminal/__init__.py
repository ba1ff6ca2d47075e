"""Recordings drawn with characters: the rows of one step, and a whole trace.

Every text is escaped for the terminal (``text.visible``) before it is printed.
"""
