"""The one exception that means "the person can fix this"."""


class InputError(ValueError):
    """Bad input. Its message is one sentence that names the fix, ready to be shown as it is."""
