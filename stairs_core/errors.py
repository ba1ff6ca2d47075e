"""The exceptions that mean "the person can fix this"."""


class InputError(ValueError):
    """Bad input. Its message is one sentence that names the fix, ready to be shown as it is."""


class NoNumbers(InputError):
    """A model whose logits are no numbers (NaN, or infinite where they are largest).

    ``whose``: the model, in words. ``dtype``: what it was computed in, as torch or a person has it.
    """

    def __init__(self, whose: str, dtype: object) -> None:
        name = str(dtype).removeprefix("torch.")
        wider = {"float16": "bfloat16 or float32", "bfloat16": "float32"}.get(name)
        fix = f"use the dtype {wider}" if wider else "its weights are damaged, so fetch it anew"
        super().__init__(f"In {name} the logits of {whose} are no numbers: {fix}.")
