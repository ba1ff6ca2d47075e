// Mends a race in Gradio's client, so that no event is lost. It stands in the page's head, before
// Gradio's own scripts.
//
// What a visitor's events yield comes in one stream (queue/data). Once no event is under way the
// server ends it, with "close_stream" as its last words. If the visitor asks for an event at that
// moment (queue/join), the answer can overtake these words: the client takes the stream for open,
// opens no other, and the event is never heard of. So the answer is held back until the stream has
// spoken of the event, as it does at once, or the client has closed it.
(function () {
  "use strict";

  const LONGEST_MS = 2000; // no answer is held back longer, whatever becomes of the stream
  const EVENT = /"event_id": ?"(\w+)"/g;
  const fetched = window.fetch;
  let stream = null; // the newest

  class Stream {
    constructor(signal) {
      this.closed = new Promise((resolve) => signal.addEventListener("abort", resolve));
      this.known = new Set(); // the events that it has spoken of
      this.waiting = new Map(); // event -> what to call when it speaks of it
    }

    speaksOf(event) {
      return new Promise((resolve) => (this.known.has(event) ? resolve() : this.waiting.set(event, resolve)));
    }

    // Takes note of the events in what comes, in a copy: the client reads the stream itself.
    async follow(body) {
      const decoder = new TextDecoder();
      let text = "";
      for (const reader = body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) return;
        text = text.slice(-100) + decoder.decode(value, { stream: true }); // an id may come in two
        for (const [, event] of text.matchAll(EVENT)) {
          this.known.add(event);
          this.waiting.get(event)?.();
        }
      }
    }
  }

  async function listen(request) {
    const opened = (stream = new Stream(request.signal));
    const response = await fetched(request);
    if (response.body) opened.follow(response.clone().body).catch(() => {}); // the client closed it
    return response;
  }

  async function join(...request) {
    const response = await fetched(...request);
    if (!stream || !response.ok) return response;
    const { event_id: event } = await response.clone().json();
    const late = new Promise((resolve) => setTimeout(resolve, LONGEST_MS));
    await Promise.race([stream.speaksOf(event), stream.closed, late]);
    return response;
  }

  window.fetch = function (...request) {
    const { pathname } = new URL(request[0].url ?? request[0], location);
    if (pathname.endsWith("/queue/data") && request[0].signal) return listen(...request);
    return pathname.endsWith("/queue/join") ? join(...request) : fetched(...request);
  };
})();
