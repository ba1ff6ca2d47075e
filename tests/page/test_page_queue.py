"""What gradio's client may lose, in a real browser: see assets/page/base/queue.js."""

from __future__ import annotations

from browsing import ready, run

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
