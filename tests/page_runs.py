"""Made-up recordings for the tests of the page: what an engine would record, without one."""

from __future__ import annotations

from stairs_core.trace import Prediction, Recording, Run, Step, Stop, Token

STORY = (
    " in the wood. He was very curious and wanted to know what it opened. He put the key into his"
    " bag and ran home. His mother looked at it for a long time, and then she said: that is the key"
    " of the little door behind the old mill, where nobody has been since I was a child.\n"
    "The fox could not sleep. In the morning he went to the mill and found the door."
)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "${1+1}",
    "{{value}}",
    "</script><b>",
    "\x00",
    "\u202egnp",
    "e\u0301\u0301",
    "שלום",
    "`\\u{",
)


def words(text: str) -> list[str]:
    """Tokens as a model would have them: a word with the space before it, marks alone."""
    pieces: list[str] = []
    for c in text:
        if c in " \n.,:" or not pieces or pieces[-1] in ("\n", ".", ",", ":"):
            pieces.append(c)
        else:
            pieces[-1] += c
    return pieces


def head(name: str, drafter: str, k: int, length: int) -> Run:
    prompt = "Once upon a time, a small fox found a key"
    pieces = tuple(words(prompt))
    return Run(
        name=name,
        prompt=prompt,
        prompt_ids=tuple(range(len(pieces))),
        prompt_tokens=pieces,
        target="made-up target",
        draft=None if drafter == "none" else "made-up draft",
        drafter=drafter,
        k=k,
        backend="single_kv",
        max_new_tokens=length,
        exactness="token-exact",
        dtype="float32",
        device="cpu",
        hardware="no machine (made up)",
        versions={},
        created="2026-01-02T03:04:05+00:00",
    )


def lane(texts: list[str], drafter: str = "model", k: int = 5, stopped: bool = False) -> Recording:
    """A lane that writes ``texts``; the draft is wrong at every seventh and eleventh token."""
    run = head("Target alone" if drafter == "none" else "Stairs", drafter, k, len(texts))
    guesses = 0 if drafter == "none" else k
    steps, at, elapsed = [], 0, 0.0
    while at < len(texts):
        room = len(texts) - at
        n = min(guesses, room - 1)
        right = [(at + i) % 7 != 4 and (at + i) % 11 != 9 for i in range(n)]
        accepted = right.index(False) if False in right else n
        drafted = [
            Token(
                at + i if right[i] else 5000 + at + i,
                texts[at + i] if right[i] else " wrong",
                "accepted" if i < accepted else "rejected" if i == accepted else "unchecked",
                "model",
            )
            for i in range(n)
        ]
        own = Token(
            at + accepted,
            texts[at + accepted],
            "bonus" if accepted == n else "correction",
            "target",
        )
        said = tuple(Prediction(at + i, texts[at + i], 0.4 + (at + i) % 5) for i in range(n + 1))
        times = 0.0021 * n, 0.019 + 0.001 * n, 0.0004
        elapsed += sum(times)
        done = at + accepted + 1 == len(texts)
        reason = ("stopped" if stopped else "length") if done else None
        steps.append(
            Step(
                len(steps),
                len(run.prompt_ids) + at,
                (*drafted, own),
                said,
                accepted,
                *times,
                elapsed,
                reason,
            )
        )
        at += accepted + 1
    return Recording(run, tuple(steps), Stop("stopped" if stopped else "length", "".join(texts)))


def pair(texts: list[str] | None = None, k: int = 5) -> list[Recording]:
    """The target alone and the stairs over the same text."""
    texts = texts or words(STORY)
    return [lane(texts, "none", k), lane(texts, "model", k)]
