"""Made-up races over a story: what an engine would record, as long as the page shows."""

from __future__ import annotations

from dataclasses import replace

from recordings import add_step, head

from stairs_core.settings.sampling import Sampling
from stairs_core.traces.records import Origin, Prediction, Recording, Run, Step, Stop, Token

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


def _head(name: str, drafter: str, k: int, length: int) -> Run:
    """The first record of a lane that goes on from the prompt."""
    prompt = "Once upon a time, a small fox found a key"
    pieces = tuple(words(prompt))
    return head(
        name=name,
        prompt=prompt,
        prompt_ids=tuple(range(len(pieces))),
        prompt_tokens=pieces,
        target="made-up target",
        draft=None if drafter == "none" else "made-up draft",
        drafter=drafter,
        k=k,
        max_new_tokens=length,
        hardware="no machine (made up)",
        versions={},
        created="2026-01-02T03:04:05+00:00",
    )


def lane(texts: list[str], drafter: str = "model", k: int = 5, stopped: bool = False) -> Recording:
    """A lane that writes ``texts``; the draft is wrong at every seventh and eleventh token."""
    run = _head("Target alone" if drafter == "none" else "Stairs", drafter, k, len(texts))
    guesses = 0 if drafter == "none" else k
    steps: list[Step] = []
    at = 0
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
        done = at + accepted + 1 == len(texts)
        reason = ("stopped" if stopped else "length") if done else None
        prompt = len(run.prompt_ids)
        add_step(steps, (*drafted, own), said, accepted, times, prompt, stop=reason)
        at += accepted + 1
    return Recording(run, tuple(steps), Stop("stopped" if stopped else "length", "".join(texts)))


def tree(texts: list[str], width: int = 3, depth: int = 4) -> Recording:
    """A lane that guesses ``width`` ways to go on, ``depth`` tokens deep; each wrong one is
    followed by a guess that is never checked. The right way stands last among its siblings."""
    run = replace(_head("a tree, K 5", "tree", 5, len(texts)), draft="made-up draft")
    steps: list[Step] = []
    at = 0
    while at < len(texts):
        n = min(depth, len(texts) - at - 1)
        accepted = n if at % 3 == 0 else at % (n + 1)
        drafted, parents, main = [], [], -1
        for level in range(n):
            on_path, follows = level <= accepted, main
            for way in range(width):
                right = way == width - 1 and level < accepted
                word = texts[at + level] if right else f"{HOSTILE[(way + level) % 4]}{way}"
                status = "accepted" if right else "rejected" if on_path else "unchecked"
                drafted.append(Token(at + level if right else 7000 + way, word, status, "tree"))
                parents.append(follows)
                main = len(drafted) - 1
                if not right and level < n - 1:
                    drafted.append(Token(8000 + way, " unread", "unchecked", "tree"))
                    parents.append(main)
        status = "bonus" if accepted == n else "correction"
        own = Token(at + accepted, texts[at + accepted], status, "target")
        said = [Prediction(9000 + i, f" p{i}", 0.5) for i in range(len(drafted) + 1)]
        row = 0
        for i, token in enumerate(drafted):
            if token.status == "accepted":
                said[row] = Prediction(token.id, token.text, 1.5)
                row = i + 1
        said[row] = Prediction(own.id, own.text, 1.5)
        reason = "length" if at + accepted + 1 == len(texts) else None
        add_step(
            steps, (*drafted, own), said, accepted, (0.004, 0.025, 0.001), len(run.prompt_ids),
            stop=reason, parents=tuple(parents),
        )  # fmt: skip
        at += accepted + 1
    return Recording(run, tuple(steps), Stop("length", "".join(texts)))


def copied(lane: Recording, name: str, document: str, shift: int) -> Recording:
    """``lane``, its guesses copied from ``document``: in "text", from ``shift`` tokens before."""
    steps = []
    for step in lane.steps:
        first = step.start if document == "text" else 0
        tokens = [
            replace(t, source="lookup", origin=Origin(document, first + i + shift))
            for i, t in enumerate(step.drafted)
        ]
        steps.append(replace(step, tokens=(*tokens, step.tokens[-1])))
    run = replace(lane.run, name=name, drafter="lookup", draft=None)
    return replace(lane, run=run, steps=tuple(steps))


def sampled(lanes: list[Recording], rule: str) -> list[Recording]:
    """``lanes``, drawn: what the target finds most likely is never what it drew."""
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=7, rule=rule)
    exact = "token-exact" if rule == "coupled" else "distribution-exact"
    likely = Prediction(4321, " likely", 0.25)
    return [
        replace(
            lane,
            run=replace(lane.run, sampling=sampling, exactness=exact),
            steps=tuple(replace(s, predictions=(likely,) * len(s.predictions)) for s in lane.steps),
        )
        for lane in lanes
    ]


def special(lanes: list[Recording], name: str = "<|end|>") -> list[Recording]:
    """``lanes`` with a special token before the prompt, and as their last one."""

    def named(record, last: int):
        ends = record.id == last
        return replace(record, text="", special=name) if ends else record

    def ended(lane: Recording) -> Recording:
        last, run = lane.steps[-1].committed[-1].id, lane.run
        steps = tuple(
            replace(
                s,
                tokens=tuple(named(t, last) for t in s.tokens),
                predictions=tuple(named(p, last) for p in s.predictions),
            )
            for s in lane.steps
        )
        first = str(run.prompt_ids[0])
        pieces = ("", *run.prompt_tokens[1:])
        run = replace(run, prompt_tokens=pieces, prompt_special={first: name})
        return replace(lane, run=run, steps=steps)

    return [ended(lane) for lane in lanes]


def odds(lanes: list[Recording]) -> list[Recording]:
    """``lanes``, every token with probabilities, and a rank: rarer by the token."""
    known = [(0.5, 1, 0.9), (0.0004, 3, 0.25), (0.12, 21, 0.004), (1.0, 112, 0.999)]

    def with_odds(step: Step, i: int, token: Token) -> Token:
        p, rank, q = known[(step.start + i) % 4]
        return replace(token, probability=p, rank=rank, draft_probability=q)

    return [
        replace(
            lane,
            steps=tuple(
                replace(s, tokens=tuple(with_odds(s, i, t) for i, t in enumerate(s.tokens)))
                for s in lane.steps
            ),
        )
        for lane in lanes
    ]


def four(texts: list[str] | None = None) -> list[Recording]:
    """The target alone, a chain, copies and a tree over the same text."""
    texts = texts or words(STORY)
    alone, chain = pair(texts)
    chain = replace(chain, run=replace(chain.run, name="the draft model, K 5"))
    lane = copied(chain, "copying from the text, K 5", "text", -6)
    return [alone, chain, lane, tree(texts)]


def pair(texts: list[str] | None = None, k: int = 5) -> list[Recording]:
    """The target alone and the stairs over the same text."""
    texts = texts or words(STORY)
    return [lane(texts, "none", k), lane(texts, "model", k)]
