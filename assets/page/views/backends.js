// The same step computed in each of the four backends: which positions a pass computes, which are
// padding, which come from the KV cache, and how long such a pass was measured to take.
(function (Stairs) {
  "use strict";

  const { el, shape, set } = Stairs;
  const NONE = {};
  const CELL = 13; // the size of a position, and the height of a row
  const CONTEXT = 5; // the text so far is drawn as at most this many positions
  const ROWS = 14; // with more rows than this, each is drawn flatter
  const WAYS = Object.keys(Stairs.words.backends); // as they are drawn, left to right
  const KEYS = [["computed", "computed"], ["ahead", "read ahead"], ["padded", "padding"],
    ["reused", "from the cache"]];
  const WHY = "A token is read together with what stands before it, never with what comes after. So the longest " +
    "row already holds every shorter one: one pass over it answers for all rows.";
  const WHY_TREE = "Branches that share a beginning share its places. One pass takes every token once, each hidden " +
    "from those that are not on its own branch.";

  const MORE = "Read ahead: tokens that are no guesses; the next guesses come from them. In several rows they are not counted. ";

  // How many positions of each row of the pass are reused, computed, computed for the next guesses only
  // (ahead; not known for the rows of the matrix) and padded.
  function places(backend, step, context) {
    const cached = backend.endsWith("kv") && step.index ? context - 1 : 0;
    const read = context - cached;
    if (backend.startsWith("single")) {
      return [{ reused: cached, computed: read + step.drafted.length, ahead: step.probe || 0, padded: 0 }];
    }
    const deepest = Math.max(...step.depths);
    return step.depths.map((d) => ({ reused: cached, computed: read + d, ahead: 0, padded: deepest - d }));
  }

  // How many tokens the decoder holds before the step; an encoder's prompt is not among them.
  const tokensBefore = ({ run }, step) => step.start - (run.encoded ? run.encoded - 1 : 0);

  class Backends {
    constructor() {
      this.cards = WAYS.map((name) => {
        const svg = shape("svg", { role: "img" });
        const cost = el("span", "st-cost");
        const note = el("p", "st-note");
        const node = el("div", "st-way", el("header", "", el("h3", "", Stairs.term(name)), cost),
          el("div", "st-places", svg), note);
        return { name, node, svg, cost, note };
      });
      const keys = KEYS.map(([kind, words]) => el("span", "", el("i", `st-place ${kind}`), words));
      this.ahead = keys[1];
      this.why = el("p", "st-note");
      this.node = el("div", "st-ways", el("header", "", el("h2", "", "The same step, four ways"),
        el("span", "st-keys", ...keys)), el("div", "st-four", ...this.cards.map((c) => c.node)), this.why);
    }

    // tall: how many rows a step of this run may have. passes: of this lane, by backend, the seconds of
    // a pass over 1, 2, … tokens, up to its widest (summary.passes in Python).
    show(lane, step, tall, passes = NONE) {
      if (this.step === step && this.passes === passes) return;
      this.passes = passes;
      for (const { name, svg } of this.cards) {
        svg.parentNode.style.setProperty("--places", name.startsWith("single") ? 1 : Math.min(tall, ROWS));
      }
      this.step = step;
      this.node.hidden = Boolean(lane.run.engine); // a log of another engine does not tell
      this.node.style.visibility = step ? "" : "hidden";
      if (!step || lane.run.engine) return;
      const context = tokensBefore(lane, step);
      for (const card of this.cards) this.draw(card, lane, step, context);
      this.ahead.hidden = !lane.ahead;
      set(this.why, (lane.ahead ? MORE : "") + (step.parents ? WHY_TREE : WHY));
    }

    draw(card, lane, step, context) {
      const { run } = lane;
      const rows = places(card.name, step, context);
      const count = (kind) => rows.reduce((sum, row) => sum + row[kind], 0);
      const own = card.name === run.backend;
      card.node.classList.toggle("own", own);
      const unknown = step.probe && rows.length > 1;
      const seconds = unknown ? undefined : this.passes[card.name]?.[step.tokens.length + (step.probe || 0) - 1];
      const measured = seconds === undefined ? "" : `about ${Stairs.seconds(seconds)}`;
      set(card.cost, own && step.verify_seconds ? `${Stairs.seconds(step.verify_seconds)} in this step` : measured);
      card.cost.title = own ? "On the engine clock, with the choice of tokens" :
        "A pass of this kind and width as measured before the run, over a text of about 100 tokens, at the pace of this run";
      const parts = KEYS.filter(([kind]) => count(kind)).map(([kind, words]) => `${count(kind)} ${words}`);
      const text = `${rows.length === 1 ? "1 row" : `${rows.length} rows`}: ${parts.join(", ")}`;
      set(card.note, text);
      card.svg.setAttribute("aria-label", `${card.name}, ${text} places`);
      picture(card.svg, rows, context);
    }
  }

  // Draws the rows; of the text so far only the last CONTEXT positions.
  function picture(svg, rows, context) {
    const shrunk = Math.min(context - 1, CONTEXT);
    const width = Math.max(...rows.map((r) => r.reused + r.computed + r.ahead + r.padded)) - (context - 1) + shrunk;
    const tall = rows.length > ROWS ? (CELL * ROWS) / rows.length : CELL;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width * CELL} ${Math.max(rows.length * tall, CELL)}`);
    svg.style.maxWidth = `${width * CELL}px`;
    const draw = (kind, y, from, to) => {
      for (let x = from; x < to; x++) {
        const gap = tall > 4 ? 1.5 : 0.3;
        svg.append(shape("rect", { class: `st-place ${kind}${x < shrunk ? " text" : ""}`, x: x * CELL + 0.75,
          y: y * tall + gap / 2, width: CELL - 1.5, height: tall - gap, rx: tall > 6 ? 2 : 0 }));
      }
    };
    rows.forEach(({ reused, computed, ahead, padded }, y) => {
      const short = (n) => (n >= context - 1 ? n - (context - 1) + shrunk : Math.min(n, shrunk));
      const [a, b] = [short(reused), short(reused + computed)];
      draw("reused", y, 0, a);
      draw("computed", y, a, b);
      draw("ahead", y, b, b + ahead);
      draw("padded", y, b + ahead, b + ahead + padded);
    });
  }

  Object.assign(Stairs, { Backends });
})((globalThis.Stairs ??= {}));
