// Whether the server is there: says so where it is not, and keeps what the visitor has over a reload.
//
// A restarted server knows nothing of this page, and Gradio itself reloads a page whose request broke
// off. Both times the form and the run on show are put into the session's storage; the page that opens
// next hands them to Python in place of its address (stairs_core/web/resume.py).
(function (Stairs) {
  "use strict";

  const { el, set, button } = Stairs;
  const TELL_MS = 10_000; // how often the page tells the server that it is open
  const AGAIN_MS = 2_000; // how often it asks whether the server is back
  const LATE_MS = 15_000; // after so long there is no answer
  const KEPT = "stairs-kept"; // also read by LINK in stairs_core/web/widgets.py
  const GONE = {
    lost: "The connection to the server is lost. What you typed and the run on show stay here; the page tries again by itself.",
    anew: "The server was started anew. What you typed and the run on show are kept.",
    swept: "The files of this run were swept away, since they were older than a day. The run on show is kept.",
  };
  const GRADIO = "Connection to the server was lost"; // in the notice of Gradio, which then reloads the page
  const GO_ON = { anew: "Go on", swept: "Make them again" };
  const TEXTS = { prompt: "prompt", system: "system", options: "options", pasted: "pasted", own: "model-own" };

  // What comes of a promise; undefined where it fails, or nothing comes for long.
  const within = (promise) =>
    Promise.race([promise.catch(() => undefined), new Promise((done) => setTimeout(done, LATE_MS))]);

  class Connection {
    // process: tells the server that the page was opened with from others; server: the functions of
    // Python that the head of the page may call.
    constructor(process, server) {
      Object.assign(this, { process, server });
      this.state = "here"; // or a key of GONE
      this.words = el("span", "");
      this.go = button("", () => location.reload());
      this.node = el("div", "st-connection", this.words, this.go);
      this.node.setAttribute("role", "alert");
      this.show("here");
      addEventListener("online", () => this.look());
      addEventListener("pagehide", () => this.keep());
      document.addEventListener("visibilitychange", () => document.hidden || this.look());
      document.addEventListener("click", (event) => this.check(event), true);
      this.look();
    }

    show(state) {
      this.state = state;
      set(this.words, GONE[state] || "");
      set(this.go.firstChild, GO_ON[state] || "");
      this.go.hidden = !GO_ON[state];
      this.node.classList.toggle("shown", state !== "here");
    }

    async look() {
      if (this.looking) return;
      this.looking = true;
      clearTimeout(this.timer);
      const found = await this.ask();
      // What was said of files stays, unless there is worse to say.
      if (found !== "here" || this.state !== "swept") this.show(found);
      this.timer = setTimeout(() => this.look(), found === "lost" ? AGAIN_MS : TELL_MS);
      this.looking = false;
    }

    // Tells the server that this page is open; its answer says which process it is. Gradio gives
    // undefined where there was no answer, or none to this page's parts.
    async ask() {
      const process = await within(this.server.here(window.__gradio_session_hash__));
      if (!process) return this.other();
      return process === this.process ? "here" : "anew";
    }

    // Whether any server is there, be it one that does not know this page.
    async other() {
      const answer = await within(fetch("gradio_api/app_id", { cache: "no-store" }));
      const { app_id } = answer?.ok ? await answer.json() : {};
      if (!app_id) return "lost";
      return app_id === window.gradio_config.app_id ? "here" : "anew";
    }

    // Before a file is saved: whether it is still there, since Gradio sweeps them away after a day.
    async check(event) {
      const link = event.target.closest?.("a[download][href*='gradio_api/file=']");
      if (!link || link.dataset.there) return;
      event.preventDefault();
      const copy = link.cloneNode();
      try {
        const answer = await fetch(link.href, { method: "HEAD" });
        if (!answer.ok) return this.show("swept");
      } catch {
        return this.look();
      }
      copy.dataset.there = "yes";
      document.body.append(copy);
      copy.click();
      copy.remove();
    }

    // Keeps the form and the run on show for the page that opens next, if it opens for lack of a server.
    keep() {
      const gradio = [...document.querySelectorAll(".toast-body.error")];
      if (this.state === "here" && !gradio.some((toast) => toast.textContent.includes(GRADIO))) return;
      const held = { ...Stairs.held };
      for (const [name, id] of Object.entries(TEXTS)) {
        const field = document.querySelector(`#${id} :is(textarea, input)`);
        if (field) held[name] = field.value; // what was typed while Gradio did not listen, too
      }
      const kept = { held, run: Stairs.stage?.kept() };
      store(kept) || store({ held });
    }
  }

  // The storage holds a few million characters.
  function store(kept) {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(kept));
      return true;
    } catch {
      return false;
    }
  }

  // Called whenever a widget changes: what each of `names` holds.
  function hold(names, values) {
    Stairs.held = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    return [];
  }

  Object.assign(Stairs, { Connection, hold });
})((globalThis.Stairs ??= {}));
