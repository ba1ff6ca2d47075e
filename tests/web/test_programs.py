"""What programs are offered, on a server: the endpoints, the tools, their refusals, their turn."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
import urllib.error
import urllib.request
from types import MappingProxyType

import browsing
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from loops import alone
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from paths import ROOT
from tiny_models import make_model, perturb, save_pair
from traffic import Visitor

import app
from stairs_core.settings import limits
from stairs_core.traces import files
from stairs_core.web import programs

README = (ROOT / "stairs_core" / "web" / "README.md").read_text(encoding="utf-8")
SECTION = README.split("\n## For programs\n")[1].split("\n## ")[0]
# Gradio and its client leave sockets and event loops for the garbage collector to close.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
PROMPT = "Once upon a time"
LONG = {"max_new_tokens": 400}


@pytest.fixture(scope="module", autouse=True)
def collected():
    yield
    gc.collect()


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "log.txt"


@pytest.fixture(scope="module")
def address(tmp_path_factory, log):
    """The page as it is served, with tools and metrics; its models are tiny, and deep enough for a
    run to be left midway."""
    folder = tmp_path_factory.mktemp("served")
    target = make_model(layers=12)
    pair = save_pair(folder / "pair", target, perturb(target, 0.03))
    for config in pair.glob("*/config.json"):
        changed = json.loads(config.read_text()) | {"max_position_embeddings": 2048}
        config.write_text(json.dumps(changed))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STAIRS_MCP", "STAIRS_METRICS", "STAIRS_JSON_LOGS"):
            patch.setenv(name, "on")
        patch.setenv("STAIRS_VISITOR_QUEUE", "4")
        with browsing.serving(folder, log, str(pair), limit=300) as url:
            wait_for(lambda: status(f"{url}/healthz") == 200, 120)
            yield url


def status(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        e.close()
        return e.code


def post(url, asked, head=MappingProxyType({})):
    kind = {"content-type": "application/json", **head}
    request = urllib.request.Request(url, json.dumps(asked).encode(), kind)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def number(address, name):
    """A number of /metrics; 0 for what has not happened yet."""
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        found = re.findall(rf"^{re.escape(name)} (.*)$", answer.read().decode(), re.MULTILINE)
    return float(found[0]) if found else 0.0


def wait_for(true, limit=30.0):
    end = time.monotonic() + limit
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    assert true()


@pytest.fixture(scope="module")
def client(address):
    found = Client(address, verbose=False)
    yield found
    found.close()


def test_the_readme_s_example_runs(client, capsys, address):
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    names: dict = {}
    exec(code.replace("http://127.0.0.1:7860", address), names)
    out = capsys.readouterr().out
    answer, race = names["answer"], names["race"]
    assert answer["text"].strip() in out
    assert answer["verdict"] == f"Same text: yes, all {answer['tokens']} tokens."
    assert [lane["drafter"] for lane in race["lanes"]] == ["model", "lookup"]
    assert {lane["same_text"] for lane in race["lanes"]} == {True}


def test_the_answer_is_what_its_trace_says(client, tmp_path):
    asked = {"k": 3, "max_new_tokens": 24, "temperature": 0.9, "seed": 5}
    answer = client.predict(PROMPT, "model", **asked, trace=True, api_name="/run")
    (tmp_path / "t.jsonl").write_text(answer.pop("trace"), encoding="utf-8")
    alone, lane = files.read(tmp_path / "t.jsonl")
    assert answer["text"] == lane.stop.text == alone.stop.text
    assert answer["tokens"] == len(lane.new_ids)
    calls = len(lane.new_ids) / len(lane.steps)
    assert answer["tokens_per_target_call"] == pytest.approx(calls, rel=1e-3)
    assert answer["seconds"] == pytest.approx(lane.steps[-1].elapsed, rel=1e-3)
    pace = alone.steps[-1].elapsed / lane.steps[-1].elapsed
    assert answer["speedup"] == pytest.approx(pace, rel=2e-3)
    assert (answer["drafter"], answer["k"], answer["same_text"]) == ("model", 3, True)
    assert (answer["target"], answer["draft"]) == (lane.run.target, lane.run.draft)
    assert (lane.run.sampling.temperature, lane.run.sampling.seed) == (0.9, 5)
    json.dumps(answer, allow_nan=False)
    auto = client.predict(PROMPT, k=0, max_new_tokens=8, api_name="/run")
    assert auto["k"] == "auto"
    assert "trace" not in auto


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"drafter": "nobody"}, "There is no drafter 'nobody': choose one of none, model, "),
        (
            {"drafter": ["model"]},
            "A race has 1 to 3 guessers: give the names of so many, as a list.",
        ),
        ({"drafter": ""}, "A race has 1 to 3 guessers: give the names of so many, as a list."),
        ({"drafter": "reference"}, "copies from texts of yours: give one as reference."),
        ({"k": 99}, "K is 99, but must be a whole number from 1 to 32."),
        ({"k": None}, "K is empty, but must be a whole number from 1 to 32."),
        ({"max_new_tokens": 4000}, "A lane writes 512 tokens at most on this page, and 4000 were"),
        ({"max_new_tokens": "many"}, "The number of new tokens is 'many', but must be"),
        ({"temperature": "hot"}, "The temperature is 'hot', but must be a number from 0 to 10."),
        ({"prompt": {"a": 1}}, "prompt and reference must be texts: put them in quotes."),
        ({"prompt": " "}, "The prompt is empty"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(client, asked, words):
    with pytest.raises(AppError) as refused:
        client.predict(**{"prompt": PROMPT, **asked}, api_name="/run")
    assert words in str(refused.value)
    assert str(refused.value).count("\n") == 0


def test_only_these_two_are_offered(client, address):
    offered = client.view_api(return_format="dict", print_info=False)
    assert [*offered["named_endpoints"]] == ["/run", "/race"]
    assert offered["unnamed_endpoints"] == {}
    with pytest.raises(urllib.error.HTTPError) as past_the_queue:
        post(f"{address}/gradio_api/run/run", {"data": [PROMPT]})
    assert past_the_queue.value.code == 404
    past_the_queue.value.close()


def test_a_host_can_keep_them_closed(monkeypatch):
    monkeypatch.setattr(limits, "current", lambda: limits.Limits(api=False))
    assert not [fn for fn in app.build().fns.values() if fn.api_visibility != "private"]


def test_tools_need_a_package(monkeypatch):
    monkeypatch.setattr(limits, "current", lambda: limits.Limits(mcp=True))
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"STAIRS_MCP is on, but the package mcp is missing"):
        app.main()


def test_an_mcp_client_lists_and_calls_them(address):
    async def talk():
        url = f"{address}/gradio_api/mcp/"
        async with (
            streamable_http_client(url) as (receive, send, _),
            ClientSession(receive, send) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            asked = {"prompt": PROMPT, "drafters": ["lookup"], "max_new_tokens": 8}
            answer = await session.call_tool("race", asked)
            refused = await session.call_tool("run", {"prompt": PROMPT, "k": 99})
            return tools, answer, refused

    tools, answer, refused = alone(talk)
    assert [tool.name for tool in tools] == ["run", "race"]
    for tool, function in zip(tools, (programs.run, programs.race), strict=True):
        assert tool.description.startswith(" ".join(function.__doc__.split())[:80])
        properties = tool.inputSchema["properties"]
        assert properties.keys() == function.__annotations__.keys() - {"caller", "return"}
        assert all(one["type"] and one["description"] for one in properties.values())
    assert not answer.isError
    (lane,) = json.loads(answer.content[0].text)["lanes"]
    assert (lane["drafter"], lane["tokens"]) == ("lookup", 8)
    assert refused.isError
    assert refused.content[0].text == "K is 99, but must be a whole number from 1 to 32."


def test_a_run_ends_when_its_caller_leaves(client, address):
    def left():
        return number(address, 'stairs_runs_total{caller="api",outcome="left"}')

    job = client.submit(PROMPT, **LONG, api_name="/run")
    wait_for(lambda: number(address, "stairs_running"))
    job.cancel()
    wait_for(lambda: left() == 1)
    event = post(f"{address}/gradio_api/call/v2/run", {"prompt": PROMPT, **LONG})["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/run/{event}") as answer:
        assert answer.readline()
        wait_for(lambda: number(address, "stairs_running"))
    wait_for(lambda: left() == 2)


def test_of_one_address_so_many_runs_wait_and_no_more(client, address):
    """The next one gradio refuses, and takes another's: this machine may say for whom it asks."""
    job = client.submit(PROMPT, **LONG, api_name="/run")
    wait_for(lambda: number(address, "stairs_running"))
    short = {"prompt": PROMPT, "max_new_tokens": 1}
    for _ in range(4):
        post(f"{address}/gradio_api/call/v2/run", short)
    assert number(address, "stairs_queue") == 4
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(f"{address}/gradio_api/call/v2/run", short)
    assert refused.value.code == 503
    assert "4 runs of one address wait on this page at most" in refused.value.read().decode()
    refused.value.close()
    assert post(f"{address}/gradio_api/call/v2/run", short, {"x-forwarded-for": "6.6.6.6"})
    job.cancel()
    wait_for(lambda: not number(address, "stairs_queue") + number(address, "stairs_running"), 120)


def test_programs_and_visitors_take_turns_and_get_their_own(client, address):
    """One run at a time, and of nobody else's prompt anything arrives."""
    marks, no_limit = ("Qaax", "Qbbx"), httpx.Limits(max_keepalive_connections=0)
    seen = set()

    async def visit(mark):
        async with httpx.AsyncClient(base_url=address, timeout=None, limits=no_limit) as http:
            visitor = Visitor(http)
            await visitor.open()
            run = await visitor.run(f"{PROMPT} {mark}", 24)
            await visitor.close()
            return run, "".join(visitor.received)

    async def meet():
        visits = asyncio.gather(*map(visit, marks))
        while not visits.done():
            seen.add(await asyncio.to_thread(number, address, "stairs_running"))
            await asyncio.sleep(0.1)
        return visits.result()

    jobs = [client.submit(f"{PROMPT} Qccx", max_new_tokens=48, api_name="/run") for _ in range(2)]
    for mark, (run, received) in zip(marks, alone(meet), strict=True):
        assert run.failed == ""
        assert run.verdicts[-1]["text"] == "Same text: yes, all 24 tokens."
        assert {*re.findall(r"Q[abc]{2}x", received)} == {mark}
    assert {job.result()["tokens"] for job in jobs} == {48}
    assert seen <= {0, 1}


def test_the_log_tells_of_runs_and_never_a_text(client, log):
    answer = client.predict("MARKED words", max_new_tokens=8, api_name="/run")
    wait_for(lambda: '"tokens": [8]' in log.read_text())
    lines = log.read_text()
    told = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    assert (told[0]["event"], told[0]["mcp"]) == ("start", True)
    over = [one for one in told if one["event"] == "run over"]
    assert over[-1]["caller"] == "api"
    assert "MARKED" not in lines
    assert answer["text"].strip() not in lines
    assert "Traceback" not in lines, lines[lines.index("Traceback") :]


def test_what_others_log_is_json_too(address, log):
    """Gradio's tracebacks, of a request that its own page would not send."""
    with urllib.request.urlopen(f"{address}/config") as answer:
        events = json.load(answer)["dependencies"]
    (one, *_) = (event for event in events if event["backend_fn"] and len(event["inputs"]) > 3)
    asked = {"data": [], "fn_index": one["id"], "session_hash": "stranger"}
    post(f"{address}/gradio_api/queue/join", asked)
    wait_for(lambda: "Traceback" in log.read_text())
    lines = log.read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    banner = [line for line in lines if not line.startswith("{")]
    assert len(banner) in (0, 3), "gradio's words on its MCP server, which stdout may still hold"
    (failed,) = [line for line in told if "Traceback" in str(line)]
    assert (failed["level"], failed["event"]) == ("error", "failed")
    assert failed["error"].startswith("Traceback")
