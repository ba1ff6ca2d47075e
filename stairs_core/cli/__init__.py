"""The command line: its parser, its commands, and how every ending is told.

Options are checked before torch is imported, so that a slip is answered at once.
"""
