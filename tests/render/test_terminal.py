"""What reaches a terminal: harmless, as wide as it should be, and readable without colour."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import replace

import page_runs
import pytest
from recordings import head, recording

from stairs_core.errors import InputError
from stairs_core.render import summary
from stairs_core.render.terminal import trace
from stairs_core.render.terminal.text import Paint, clip, clip_left, visible, width
from stairs_core.traces.records import Prediction, Recording, Step, Stop, Token

SGR = re.compile(r"\x1b\[[0-9;]*m")
ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\x7f\u202eevil\u2028\u2066\ud800\r\n\t\x85"


def obeyed(text: str) -> list[str]:
    """The characters of ``text`` that a terminal would act on, line breaks apart."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [c for c in text if unicodedata.category(c) in kinds and c not in "\n\u200c\u200d"]


def run_of_six() -> Recording:
    """One step of four guesses, two accepted; then a full accept that the token budget cut."""
    said = [Prediction(i, w, 1.0 + i) for i, w in enumerate((" b", " c", " X", " e", " f"))]
    tokens = (
        Token(0, " b", "accepted", "model"),
        Token(1, " c", "accepted", "model"),
        Token(2, " d", "rejected", "model"),
        Token(3, " e", "unchecked", "model"),
        Token(9, " X", "correction", "target"),
    )
    last = (Token(5, " y", "accepted", "model"), Token(6, " z", "dropped", "target"))
    steps = (
        Step(0, 2, tokens, tuple(said), 2, 0.1, 0.2, 0.0, 0.3),
        Step(1, 5, last, (said[0], said[1]), 1, 0.1, 0.2, 0.0, 0.6, "length"),
    )
    return Recording(head(k=4), steps, Stop("length", " b c X y"))


def alone() -> Recording:
    """The same text by the target alone, in half the speed."""
    steps = tuple(
        Step(i, 2 + i, (Token(t, w, "bonus", "target"),), (Prediction(t, w, 1.0),), 0, 0, 0.3, 0,
             0.3 * (i + 1), "length" if i == 3 else None)
        for i, (t, w) in enumerate(((0, " b"), (1, " c"), (9, " X"), (5, " y")))
    )  # fmt: skip
    return Recording(head(name="none", drafter="none"), steps, Stop("length", " b c X y"))


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ("constant", ", K 5,"),
        ("cost", ", K auto, 5 at most,"),
        ("heuristic", ", from K 5 (heuristic),"),
        ("confidence", ", K 5 at most (confidence),"),
    ],
)
def test_page_and_terminal_say_alike_how_many_are_drafted(length, words):
    made = replace(recording(), run=head(k=5, length=length))
    assert words in trace.draw([made], 200)
    assert words in summary.source([made], "live")


def test_every_status_has_marks_of_its_own():
    drawn = trace.draw([run_of_six()], 80)
    assert "   b c ~d~ ·e· [X] y /z/\n" in drawn
    assert "  1 ━━╳┄◆ ━∅\n" in drawn
    assert len({style[2] for style in trace.STYLES.values()}) == len(trace.STYLES)
    assert len({style[:2] for style in trace.STYLES.values()}) == len(trace.STYLES)


@pytest.mark.parametrize("step", [None, 1, 2])
def test_colour_only_repeats_the_marks(step):
    lanes = [alone(), run_of_six()]
    plain = trace.draw(lanes, 60, step=step)
    coloured = trace.draw(lanes, 60, step=step, color=True)
    assert "\x1b" not in plain
    assert SGR.search(coloured)
    assert SGR.sub("", coloured) == plain


def test_the_stairs_of_a_step():
    drawn = trace.draw([run_of_six()], 80, step=1).splitlines()
    at = drawn.index("model, step 1 of 2: 4 guessed, 2 accepted, 3 added to the text")
    assert drawn[at + 1 : at + 6] == [
        " 0 a b             →  b    1.00 ✓",
        " 1 a b│ b          →  c    2.00 ✓",
        " 2 a b│ b│ c       →  X    3.00 ◆",
        " 3 a b│ b│ c│ d    →  e    4.00 ·",
        " 4 a b│ b│ c│ d│ e →  f    5.00 ·",
    ]


def test_only_the_text_begins_new_lines():
    lane = recording("\n")
    assert "\n  ↵\n  ~↵~[↵\n  ]{↵\n  }\n" in trace.draw([lane], 80)


def test_a_later_step_shows_the_text_before_it():
    drawn = trace.draw([run_of_six()], 80, step=2)
    assert " 0 a b b c X    →  y    1.00 ✓\n" in drawn
    assert " 1 a b b c X│ y →  z    2.00 ●\n" in drawn


def test_a_step_that_one_lane_has_is_drawn_for_that_lane():
    lanes = [alone(), run_of_six()]
    assert "none, step 4 of 4" in trace.draw(lanes, 80, step=4)
    assert "model, step" not in trace.draw(lanes, 80, step=4)
    for step in (0, -1, 5):
        with pytest.raises(InputError, match="the steps 1 to 4"):
            trace.draw(lanes, 80, step=step)


@pytest.mark.parametrize("step", [None, 1, 2])
@pytest.mark.parametrize("color", [False, True])
def test_a_hostile_trace_cannot_command_the_terminal(step, color):
    run = head(
        **dict.fromkeys(
            ("name", "prompt", "target", "draft", "drafter", "backend", "exactness", "hardware",
             "created"),
            ATTACK,
        ),
        prompt_tokens=(ATTACK, ATTACK),
    )  # fmt: skip
    lanes = [replace(recording(ATTACK), run=run), replace(recording(" other"), run=run)]
    lanes[1] = replace(lanes[1], steps=_other_ids(lanes[1].steps))
    drawn = trace.draw(lanes, 100, color=color, step=step)
    assert "part at new token 1" in " ".join(SGR.sub("", drawn).split())
    assert "␛]0;owned␇" in drawn
    assert not obeyed(SGR.sub("", drawn) if color else drawn)
    drawn.encode("utf-8")


def _other_ids(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(
        replace(s, tokens=tuple(replace(t, id=t.id + 50) for t in s.tokens)) for s in steps
    )


@pytest.mark.parametrize("columns", [20, 33, 60, 200])
@pytest.mark.parametrize("step", [None, 1])
def test_lines_keep_to_the_width(columns, step):
    run = head(prompt="长" * 50, prompt_tokens=("长" * 50, " b"), name="n" * 99, target="t " * 70)
    long = replace(recording(" 你好🦊 " * 20), run=run)
    drawn = trace.draw([long], columns, step=step).splitlines()
    table = next(i for i, line in enumerate(drawn) if line.startswith("lane "))
    wide = [line for line in drawn[:table] if width(line) > max(columns, 32)]
    assert wide == []


def test_numbers_line_up_under_their_names():
    lines = trace.table([alone(), run_of_six()], Paint(False))
    assert lines == [
        "lane   tokens  seconds  tok/s  tok/call  accepted  alpha",
        "none        4    1.200    3.3      1.00         –      –",
        "model       4    0.600    6.7      2.00      0.60   0.75",
    ]


def test_the_verdict_on_one_text():
    assert trace.verdict([alone()]) == ""
    told = trace.verdict([alone(), run_of_six()])
    assert told == "model is 2.00 times as fast as none; the texts are the same, all 4 tokens."


def test_the_verdict_names_where_texts_part():
    other = run_of_six()
    first = other.steps[0]
    tokens = (*first.tokens[:4], replace(first.tokens[4], id=77, text=" Q"))
    other = replace(other, steps=(replace(first, tokens=tokens), other.steps[1]))
    expected = 'part at new token 3: none says " X", model " Q", by 1 logits (not measured).'
    for lanes in ([alone(), other], [alone(), other, run_of_six()]):
        told = trace.verdict(lanes)
        assert expected in told


def test_the_verdict_on_a_run_that_was_stopped():
    stopped = replace(alone(), steps=(), stop=Stop("stopped", ""))
    assert "cannot be timed" in trace.verdict([alone(), stopped])
    short = replace(alone(), steps=alone().steps[:2], stop=Stop("stopped", " b c"))
    assert "not equally long" in trace.verdict([run_of_six(), short]) or (
        "the same in the 2 tokens that all wrote" in trace.verdict([run_of_six(), short])
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("abc", 3), ("你a", 3), ("🦊", 2), ("e\u0301", 1), ("שלום", 4), ("ｱ", 1), ("Ａ", 2)],
)
def test_width_is_in_cells(text, expected):
    assert width(text) == expected


def test_nothing_invisible_is_left():
    everything = "".join(map(chr, range(0x3100))) + "".join(map(chr, range(0xD7F0, 0xE010)))
    shown = visible(everything + "\ufeff\U000e0041")
    assert not obeyed(shown)
    assert "\n" not in shown
    assert visible("\x00\x1b\x7f\x9b\u202e\ud800") == "␀␛␡\\x9b\\u202e\\ud800"
    assert visible("a b é 你 🦊 👩\u200d🚀") == "a b é 你 🦊 👩\u200d🚀"


@pytest.mark.parametrize("seed", range(40))
def test_wrapping_and_cutting_keep_to_the_width_and_lose_nothing(seed):
    rng = random.Random(seed)
    text = "".join(rng.choices("ab é你🦊e\u0301 \n", k=rng.randrange(1, 120)))
    room = rng.randrange(4, 30)
    lines = Paint(False).wrap([(text[:9], "1"), (text[9:], "")], room, "  ")
    assert all(line.startswith("  ") and width(line) <= room for line in lines)
    assert "".join(line[2:] for line in lines) == text.replace("\n", "")
    line = text.replace("\n", "")
    for cut in (clip, clip_left):
        assert width(cut(line, room)) <= room
        assert cut(line, 999) == line
    if width(line) > room:
        assert line.startswith(clip(line, room)[:-1])
        assert line.endswith(clip_left(line, room)[1:])


def test_wrapping_prefers_the_end_of_a_word():
    assert Paint(False).wrap([("the quick fox", "")], 11) == ["the quick ", "fox"]
    assert Paint(True).wrap([("ab", "1"), ("cd", "")], 3) == ["\x1b[1mab\x1b[0mc", "d"]


def test_a_tree_is_drawn_as_a_tree():
    lane = page_runs.tree([" one", " two", " three", " four", " five"], width=2, depth=2)
    drawn = trace.draw([lane], 80, step=1).splitlines()
    title = "a tree, K 5, step 1 of 2: 5 guessed in a tree, 2 accepted, 3 added to the text"
    at = drawn.index(title) + 2
    assert [line.split("→")[0].strip() + line[-2:] for line in drawn[at : at + 5]] == [
        "1 ├ ~<img src=x onerror=alert(1)>0~ ·",
        "2 │ └ · unread· ·",
        "3 └  one ✓",
        "4   ├ ~${1+1}0~ ·",
        "5   └  two ●",
    ]
    assert "   one two~×3~ {three} four~×1~ {five}\n" in trace.draw([lane], 80)
    deep = page_runs.tree(page_runs.words(page_runs.STORY), width=7, depth=40)
    for columns in (32, 80):
        rows = [r for r in trace.draw([deep], columns, step=1).splitlines() if "→" in r]
        assert len(rows) == len(deep.steps[0].predictions) > 400
        assert max(map(width, rows)) <= columns


def test_what_was_drawn_stands_in_the_stairs():
    (lane,) = page_runs.sampled([page_runs.pair()[1]], "speculative")
    drawn = trace.draw([lane], 200, step=2)
    assert "sampled, temperature 0.8, top-p 0.9, seed 7, distribution-exact" in drawn
    for token in lane.steps[1].committed:
        assert f"→ {token.text} " in drawn


def test_a_special_token_is_drawn_by_its_name_and_is_no_text():
    lanes = page_runs.special(page_runs.pair(page_runs.words(page_runs.STORY)[:12]))
    whole = trace.draw(lanes, 300)
    assert whole.count("⟦<|end|>⟧") == 2  # one a lane, where it ends
    last = len(lanes[1].steps)
    assert "→ ⟦<|end|>⟧" in trace.draw(lanes[1:], 100, step=last)
    assert "⟦<|end|>⟧" in trace.draw(lanes[1:], 300, step=1).split("→")[0]


def test_a_special_token_with_a_number_that_python_does_not_read_is_left_out():
    lane = recording()
    odd = {"9" * 5000: "x", "2": "end"}
    drawn = trace.draw([replace(lane, run=replace(lane.run, prompt_special=odd))], 100, step=1)
    assert "⟦end⟧" in drawn
