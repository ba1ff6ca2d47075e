"""Other engines' logs: what they count becomes a trace, and nothing that they do not tell."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from engine_log_samples import (
    DETAILED,
    MLX_VLM,
    SGLANG,
    SGLANG_2025,
    SIMPLE,
    STATISTICS,
    SUMMARY,
    TRACED,
    V0,
    VERBOSE,
)
from recordings import recording

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.render import summary
from stairs_core.render.charts import race
from stairs_core.render.terminal import trace
from stairs_core.traces import checks, engine_logs, files, metrics


def meta(**told) -> str:
    return json.dumps({"text": "Once", "meta_info": told})


@pytest.fixture
def opened(tmp_path):
    def open_text(text: str | bytes, name: str = "a.log"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return files.open_any(file)

    return open_text


def counted(recordings) -> dict[str, list[tuple[int, int]]]:
    return {r.run.name: [(s.accepted, len(s.drafted)) for s in r.steps] for r in recordings}


@pytest.mark.parametrize(
    ("text", "engine", "expected"),
    [
        (json.dumps(DETAILED, indent=2), "vLLM", {"chatcmpl-1": [(0, 3), (3, 3), (0, 2)]}),
        (json.dumps(DETAILED) + "\n" + json.dumps(DETAILED | {"id": "b"}), "vLLM",
         {"chatcmpl-1": [(0, 3), (3, 3), (0, 2)], "b": [(0, 3), (3, 3), (0, 2)]}),
        (f'data: {{"id": "x"}}\n\ndata: {json.dumps(DETAILED)}\n\ndata: [DONE]\n', "vLLM",
         {"chatcmpl-1": [(0, 3), (3, 3), (0, 2)]}),
        (json.dumps(DETAILED["metrics"]["speculative_decoding"]), "vLLM",
         {"request 1": [(0, 3), (3, 3), (0, 2)]}),
        (TRACED, "llama.cpp", {"task 0": [(3, 5), (16, 16)], "task 9": [(2, 5), (0, 0)]}),
        (VERBOSE, "llama.cpp", {"task 0": [(3, 5), (16, 16)]}),
        (SIMPLE, "llama.cpp", {"request": [(4, 8), (4, 8)]}),
    ],
    ids=["json", "jsonl", "events", "bare", "traced", "verbose", "simple"],
)  # fmt: skip
def test_counts_of_steps_become_a_trace(opened, text, engine, expected):
    found = opened(text)
    assert counted(found) == expected
    assert opened(text.replace("\n", "\r\n")) == found
    assert files.loads(files.dumps(found)) == found, "the page is sent it as a trace"
    for lane in found:
        assert lane.run.engine == engine
        assert lane.run.k == max(n for _, n in expected[lane.run.name])
        for step in lane.steps:
            n, a = len(step.drafted), step.accepted
            own = "bonus" if a == n else "correction"
            wrong = ["rejected"] * (a < n) + ["unchecked"] * (n - a - 1)
            assert [t.status for t in step.tokens] == ["accepted"] * a + wrong + [own]
            assert not any(t.text or t.id for t in step.tokens)
        assert metrics.fold(lane.steps).seconds == 0


def test_nothing_is_said_of_texts_and_times_that_a_log_does_not_tell(opened):
    found = opened(json.dumps(DETAILED) + "\n" + json.dumps(DETAILED | {"id": "b"}))
    drawn = trace.draw(found, 100)
    assert "Log of vLLM, 2 lanes: Qwen/Qwen3-8B, K 3 at most" in drawn
    assert "chatcmpl-1       6        –      –      2.00      0.38   0.60" in drawn
    assert "neither texts nor times" in drawn
    assert "0.00" not in trace.draw(found, 100, step=1)
    assert "fast as" not in drawn
    assert "the same" not in drawn
    assert metrics.compare(*found).identical is None
    assert metrics.compare(*found).speedup is None
    (lane,) = summary.facts(found[:1])
    assert [tile["value"] for tile in lane["numbers"]][:3] == ["–"] * 3
    assert "a log of vLLM with Qwen/Qwen3-8B" in summary.source(found, "file", "a.log")


def sorted_counts(histogram, k):
    return [(held, k) for held, n in enumerate(histogram) for _ in range(n)]


def shown_axis(found) -> str:
    (chart,) = [chart for chart in race.charts(found) if chart["id"] == "draft-lengths"]
    return chart["layout"]["xaxis"]["title"]["text"]


@pytest.mark.parametrize(
    ("text", "engine", "untold", "expected"),
    [
        (meta(**SGLANG), "SGLang", "order", sorted_counts([11, 14, 11, 4, 0, 3], 5)),
        (json.dumps({"choices": [{"meta_info": {"spec_verify_ct": 10, "spec_draft_token_num": 30,
         "spec_accept_histogram": [5, 0, 0, 5]}}]}), "SGLang", "order",
         sorted_counts([5, 0, 0, 5], 3)),
        (meta(completion_tokens=8, spec_verify_ct=7, spec_accept_histogram=[0, 7]), "SGLang",
         "guesses", [(1, 1)] * 7),
        (json.dumps({"metrics": {"speculative_decoding": {"acceptance_histogram": [39, 1, 0, 3],
         "num_spec_steps": 43, "num_accepted_draft_tokens": 10, "num_draft_tokens": 129,
         "num_spec_tokens": 3}}}), "vLLM", "order", sorted_counts([39, 1, 0, 3], 3)),
        (json.dumps(SUMMARY), "vLLM", "lengths", [(0, 2), (0, 3), (3, 3)]),
    ],
    ids=["sglang", "sglang, chat", "sglang, no drafts", "vllm", "vllm, short"],
)  # fmt: skip
def test_a_histogram_opens_as_counts_in_no_known_order(opened, text, engine, untold, expected):
    found = opened(text)
    assert [*counted(found).values()] == [expected]
    assert files.loads(files.dumps(found)) == found
    assert (found[0].run.engine, found[0].run.untold) == (engine, untold)
    told = metrics.known(found[0])
    held, made = (sum(column) for column in zip(*expected, strict=True))
    assert told.acceptance_rate == (held / made if untold != "guesses" else None)
    assert (told.alpha is None) == (untold != "order")
    drawn = trace.draw(found, 100)
    for said in (drawn, summary.source(found, "file", "a.log")):
        assert "their order is not known" in " ".join(said.split())
    assert "in no known order" in drawn
    for said in (drawn, summary.source(found, "file", "a.log")):
        assert ("at most" in said) == (untold == "order")
    assert shown_axis(found) == "steps, sorted"
    assert "in no known order" in trace.draw(found, 100, step=1)
    shown = {chart["id"]: chart for chart in race.charts(found)}
    assert "the order of the steps is not known" in shown["draft-lengths"]["captions"][0]
    assert not shown["tokens-over-time"]["tables"][0]["rows"]
    assert bool(shown["acceptance-by-position"]["data"]) == (untold == "order")
    names = [trace["name"] for trace in shown["draft-lengths"]["data"]]
    assert names == ["drafted", "accepted"][untold != "order" :]


def test_what_is_told_in_order_says_nothing_of_an_unknown_one(opened):
    found = opened(json.dumps(DETAILED))
    assert found[0].run.untold is None
    assert "order" not in summary.source(found, "file", "a.log")
    assert "untold" not in files.dumps(found)


def test_a_stream_repeats_a_histogram_as_it_grows(opened):
    grown = [SGLANG | {"spec_correct_drafts_histogram": h, "spec_num_correct_drafts": None,
                       "spec_num_proposed_drafts": 5 * sum(h), "spec_verify_ct": sum(h)}
             for h in ([1], [1, 2], [1, 3])]  # fmt: skip
    text = "\n".join(f"data: {json.dumps({'meta_info': one})}" for one in grown)
    assert counted(opened(text)) == {"9d0f": [(0, 5), *[(1, 5)] * 3]}
    samples = json.dumps({"choices": [{"meta_info": one} for one in grown]})
    assert [*counted(opened(samples))] == ["9d0f", "9d0f (2)", "9d0f (3)"]


def test_a_stream_of_large_histograms_is_worked_out_once(opened):
    one = meta(id="a", spec_accept_histogram=[99_999], spec_draft_token_num=0)
    before = time.process_time()
    (lane,) = counted(opened("\n".join([one] * 5000))).values()
    assert len(lane) == 99_999
    assert time.process_time() - before < 20


def one_by_one(accepted, k, missing) -> list[int]:
    lengths = [k] * len(accepted)
    while missing:
        for i, a in enumerate(accepted):
            if missing and lengths[i] > a:
                lengths[i] -= 1
                missing -= 1
    return lengths


def test_missing_guesses_are_taken_from_the_steps_in_turn(opened):
    for counts in itertools.product(range(3), repeat=4):
        held = [j for j, n in enumerate(counts) for _ in range(n)]
        for drafted in range(sum(held), 4 * len(held) + 1):
            if held:
                made = one_by_one(held, 4, 4 * len(held) - drafted)
                (found,) = counted(engine_logs.loads(histogram([*counts], drafted, 4))).values()
                assert found == [*zip(held, made, strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slot update_slots: id  3 | task 0 | accepted 11/0 draft tokens, new n_tokens = 741\n"
         "slot update_slots: id  3 | task 0 | accepted 4/0 draft tokens, new n_tokens = 746",
         "llama.cpp before its fix of December 2025"),
        (V0.format(8550, 13311), "vLLM before V1"),
        ("[2026-01-01] Decode batch. #running-req: 1, #token: 9, token usage: 0.01, accept len: "
         "2.46, accept rate: 0.49, cuda graph: True", "averages of SGLang only (accept len: 2.46)"),
        (meta(completion_tokens=200, spec_verify_ct=188), "200 tokens in 188 passes"),
        ('{"specDecodingStats": {"numDraftTokens": 9, "numAcceptedTokens": 3}}',
         "a log of TensorRT-LLM, which is not known here"),
        ("INFO text_generation_router::server: Success", "TGI, which is not known here"),
        ('{"acceptance_histogram": [5, 0, 0, 10]}', "neither a Stairs trace nor a log of vLLM"),
    ],
    ids=["llama.cpp", "vllm", "sglang", "sglang, old", "tensorrt", "tgi", "nobody's"],
)  # fmt: skip
def test_a_log_that_cannot_be_drawn_is_told_for_what_it_is(opened, text, words):
    told = refused(opened, text)
    assert words in told
    assert "damaged" not in told


@pytest.mark.parametrize(
    ("text", "totals", "switch"),
    [
        (json.dumps({"usage": {"num_accepted_draft_tokens": 3, "num_draft_tokens": 8}}), "3 of 8",
         "--per-request-spec-decode-metrics detailed"),
        (V0.format(1, 5) + V0.format(8550, 13311), "8550 of 13311", "a newer vLLM"),
        (V0.replace("tokens:", "tokens tokens:").format(0, 42272), "0 of 42272", "vLLM before V1"),
        (json.dumps({"meta_info": SGLANG_2025}), "11 of 940", "spec_accept_histogram"),
        (json.dumps({"timings": MLX_VLM}), "81 of 90", "totals of mlx-vlm only"),
        ("INFO 09-01 SpecDecoding metrics: Mean acceptance length: 2.1, Accepted throughput: 3.00 "
         "tokens/s, Drafted throughput: 9.00 tokens/s, Accepted: 66 tokens, Drafted: 90 tokens, "
         "Per-position acceptance rate: 0.8", "66 of 90", "vLLM"),
        ("draft acceptance rate = 0.57576 (  171 accepted /   297 generated)\n" + STATISTICS,
         "171 of 297", "LLAMA_TRACE=1"),
        (STATISTICS + STATISTICS.replace("98", "99"), "172 of 297", "LLAMA_TRACE=1"),
        ("n_draft   = 16\nn_predict = 266\nn_drafted = 254\nn_accept  = 223\naccept    = 87.795%",
         "223 of 254", "with -v"),
        ('data: {"id":"c","timings":{"draft_n":3,"draft_n_accepted":1}}\n'
         'data: {"id":"c","timings":{"draft_n":347,"draft_n_accepted":65}}\n', "65 of 347", "-v"),
    ],
    ids=["vllm sums", "vllm 0.6", "vllm 0.5", "sglang 2025", "mlx-vlm", "vllm log",
         "llama rate", "llama statistics", "simple", "timings"],
)  # fmt: skip
def test_totals_alone_are_quoted_and_say_what_to_switch_on(opened, text, totals, switch):
    assert f"{totals} guesses were accepted" in refused(opened, text)
    assert switch in refused(opened, text)


def refused(opened, text, name="a.log") -> str:
    with pytest.raises(InputError) as caught:
        opened(text, name)
    told = str(caught.value)
    assert "\n" not in told
    assert told.endswith(".")
    assert len(told) < 200
    return told


def histogram(steps, drafted, k, **told) -> str:
    told = {"num_spec_tokens": k, "num_draft_tokens": drafted, **told}
    return json.dumps({"acceptance_histogram": steps, **told})


def steps(accepted, drafted) -> str:
    return json.dumps({"per_step_accepted": accepted, "per_step_drafted": drafted})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (steps([4], [3]), "4 of 3 guesses"),
        (steps([-1], [3]), "-1 of 3"),
        (steps([1, True], [3, 3]), "step 2, True of 3"),
        (steps([1.5], [3]), "1.5 of 3"),
        (steps([float("nan")], [3]), "nan of 3"),
        (steps([0], [10**9]), "0 of 1000000000"),
        (steps(["</script>"], [3]), "of 3"),
        (steps([1, 2], [3]), "2 steps accepted"),
        (steps([1], None), "needs per_step_accepted and per_step_drafted"),
        (steps([0] * 1000, [1000] * 1000), "more than 500000 tokens"),
        ("\n".join(steps([1], [1]) for _ in range(65)), "more requests than can be drawn (64)"),
        (meta(spec_accept_histogram=[1, "2"], spec_verify_ct=3), "is no list of"),
        (meta(spec_accept_histogram=[1, -2], spec_verify_ct=-1), "is no"),
        (meta(spec_accept_histogram=[0, 1], spec_verify_ct=3), "1 steps and 1 accepted"),
        (meta(spec_accept_histogram=[0, 1], spec_draft_token_num=0), "of 0 guesses"),
        (meta(spec_accept_histogram=[10**12], spec_verify_ct=10**12), "more than 500000"),
        (meta(spec_accept_histogram=[1], spec_draft_token_num=10**9), "more than 1024 guesses"),
        (histogram([1], 0, 2**53 - 1), "more than 1024 guesses"),
        (histogram([1], 0, 1025), "more than 1024 guesses"),
        (histogram([400_000], 300_000, 1), "more than 500000"),
        (meta(spec_accept_histogram=[0] * 1024 + [499]), "more than 500000"),
        ("\n".join(histogram([499_999], 0, 1) for _ in range(64)), "more than 500000"),
        (histogram([1], 0, 1, num_spec_steps=10**4000), "beside it stand 1000"),
        (f'{{"num_draft_tokens": {10**4200}, "num_accepted_draft_tokens": 3}}', "neither"),
        (meta(spec_accept_histogram=[0] * 5000), "more than 1024 guesses"),
        (VERBOSE + "slot x: id 0 | task 0 | restoring speculative checkpoint (pos_min = 1",
         "did twice"),
        ("[" * 200_000, "neither"),
        ("{" * 200_000, "neither"),
        ('{"a":' * 100_000, "neither"),
        ('{"per_step_accepted": ' + "9" * 6000 + "}", "neither"),
        ("\x00" * 100, "neither"),
        ("hello </script> ${1+1} {{x}}", "neither"),
        (b"\x89PNG\r\n\xff", "neither"),
        (b"\xff\xfe\x00", "neither"),
        ("accepted" * 1000 + " " * 100_000 + "x", "neither"),
        (" \n", "is empty"),
        ('{"type": "run", "lane": 0', "not a Stairs trace"),
    ],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(opened, text, why):
    assert why in refused(opened, text)


def test_a_file_of_21_megabytes_is_refused(opened):
    assert "21 MB" in refused(opened, b" " * (21 << 20))


def test_names_in_a_log_are_text(opened):
    attack = "</script>\x1b[2J\x00\u202e${1+1}\ud800"
    (found,) = opened(json.dumps(DETAILED | {"id": attack, "model": attack * 100}))
    assert found.run.name == attack
    assert len(found.run.target) == 200
    assert not {"\x1b", "\x00", "\u202e", "\ud800"} & {*trace.draw([found], 80)}


def test_requests_of_one_name_are_told_apart(opened):
    one = {"per_step_accepted": [1], "per_step_drafted": [1]}
    names = ["x", "x (2)", "x", "x", "x (3)"]
    found = opened("\n".join(json.dumps({"id": name, **one}) for name in names))
    assert [r.run.name for r in found] == ["x", "x (2)", "x (3)", "x (4)", "x (3) (2)"]


def test_a_log_of_powershell_is_read(opened):
    assert opened(SIMPLE.encode("utf-16")) == opened(SIMPLE)


def test_a_trace_stays_a_trace_whatever_it_is_about(opened):
    lanes = [recording("slot x: id 0 | task 0 | accepted  3/ 5 draft tokens")]
    assert opened(files.dumps(lanes)) == lanes


def test_show_draws_a_log(tmp_path, capsys):
    file = tmp_path / "server.log"
    file.write_text(TRACED)
    assert main.main(["show", str(file)]) == 0
    assert "━━━╳┄◆" in capsys.readouterr().out
    assert main.main(["show", str(file), "--step", "1"]) == 0
    assert "5 guessed, 3 accepted" in capsys.readouterr().out
    file.write_text(STATISTICS)
    assert main.main(["show", str(file)]) == 2
    assert "171 of 297" in capsys.readouterr().err


def test_limits_leave_room_for_what_is_drawn():
    assert engine_logs.MAX_LANES == files.MAX_LANES
    assert engine_logs.MAX_DRAFTED == checks.MAX_DRAFTED
