"""What gradio's client may lose, in a real browser: see assets/page/base/queue.js."""

from __future__ import annotations

import re

from browsing import LIVE, LONG, ready, run
from playwright.sync_api import expect

from stairs_core.web import notices

pytest_plugins = ["visits"]
# The last words of every stream of messages come late, as on a busy machine.
_LATE = r"""
const fetched = window.fetch;
window.fetch = async (...request) => {
    const response = await fetched(...request);
    if (!response.url.includes("/queue/data")) return response;
    const late = new TransformStream({
        async transform(chunk, out) {
            const text = new TextDecoder().decode(chunk);
            const end = text.search(/data: .{0,80}close_stream/);
            const [rest, last] = end < 0 ? [text, ""] : [text.slice(0, end), text.slice(end)];
            out.enqueue(new TextEncoder().encode(rest));
            if (!last) return;
            await new Promise((resolve) => setTimeout(resolve, 500));
            out.enqueue(new TextEncoder().encode(last));
            window.ends = (window.ends || 0) + 1;
        },
    });
    return new Response(response.body.pipeThrough(late), response);
};
"""


def test_what_is_asked_for_while_a_stream_ends_is_heard_of(visit):
    page = visit(script=_LATE)
    ready(page)  # each handler that follows another is asked for while a stream ends
    run(page, "the fox", 8)
    page.wait_for_function("window.ends > 1")


# The stream of messages stays open from the first event on, and of any other the visitor's client
# hears only when all that it yields has come: as where the answer to its request comes late.
_OVERTAKEN = r"""
const fetched = window.fetch, completed = new Set();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let streaming = false;
window.overtaken = 0;

async function* messages(request) {
    for (let response = await fetched(request); ; response = await fetched(request.url)) {
        let rest = "";
        for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
            const found = (rest + text).split("\n\n");
            rest = found.pop();
            yield* found;
        }
    }
}

async function listen(request) {
    streaming = true;
    const body = new TransformStream();
    (async () => {
        const out = body.writable.getWriter();
        for await (const message of messages(request)) {
            if (message.includes("close_stream")) continue;
            await out.write(new TextEncoder().encode(`${message}\n\n`));
            const { msg, event_id } = JSON.parse(message.replace("data: ", ""));
            if (msg === "process_completed") completed.add(event_id);
        }
    })();
    return new Response(body.readable, { headers: { "content-type": "text/event-stream" } });
}

window.fetch = async (...request) => {
    const address = request[0].url ?? String(request[0]);
    if (address.includes("/queue/data")) return listen(request[0]);
    const response = await fetched(...request);
    if (!address.includes("/queue/join") || !streaming) return response;
    const { event_id } = await response.clone().json();
    while (!completed.has(event_id)) await pause(20);
    await pause(100);
    window.overtaken += 1;
    return response;
};
"""


def test_what_came_before_its_request_was_answered_is_drawn(visit):
    page = visit(script=_OVERTAKEN)
    ready(page)
    before = page.evaluate("window.overtaken")
    run(page, "the fox", 8)
    assert page.evaluate("window.overtaken") > before
    expect(page.locator("#verdict")).to_contain_text("all 8 tokens")
    expect(page.locator(".st-stage")).not_to_have_class(re.compile("running"))
    expect(page.locator("#run")).to_be_enabled()
    expect(page.locator("#notice .st-notice")).to_have_text("")
    with page.expect_download() as saved:
        page.locator("#trace-download").click()
    assert saved.value.suggested_filename.startswith("stairs-")


def test_run_is_pressed_the_moment_it_is_free(visit):
    page = visit()
    ready(page)
    page.evaluate(
        """() => {
            const button = document.querySelector("#run");
            let busy = false;
            new MutationObserver(() => {
                if (busy && !button.disabled) button.click();
                busy = button.disabled;
            }).observe(button, { attributes: true });
        }"""
    )
    run(page, "the fox", 8)
    for _ in range(3):
        before = page.evaluate("Stairs.stage.run")
        page.wait_for_function("before => Stairs.stage.run !== before", arg=before, timeout=LIVE)


def test_a_run_that_waits_for_its_turn_is_stopped_at_once(visit):
    first, second = visit(), visit()
    for page in (first, second):
        ready(page)
    run(first, "the fox", LONG)
    shown = second.evaluate("Stairs.stage.run")
    for _ in range(2):  # whoever was stopped may ask again
        second.locator("#run").click()
        expect(second.locator("#notice .st-notice")).to_have_text(notices.QUEUED)
        expect(second.locator("#run")).to_be_disabled()
        second.wait_for_timeout(300)
        second.locator("#stop").click()
        expect(second.locator("#notice .st-notice")).to_have_text(notices.WITHDRAWN)
        expect(second.locator("#run")).to_be_enabled()
        expect(second.locator("#stop")).to_be_disabled()
    second.locator("#max-new-tokens input[type=number]").fill("8")
    second.locator("#run").click()
    expect(first.locator(".st-stage")).to_have_class(re.compile("running"))
    first.locator("#stop").click()
    second.wait_for_function("shown => Stairs.stage.run !== shown", arg=shown, timeout=LIVE)
    expect(second.locator("#verdict")).to_contain_text("all 8 tokens")
