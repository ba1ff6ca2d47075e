// The stairs of one step, computed four ways: which places a pass works out, which are only
// padding, and which come out of the cache; and what such a pass was measured to take.
(function (Stairs) {
  "use strict";

  const { el, shape, set } = Stairs;
  const NONE = {};
  const CELL = 13; // a place, and the height of a row
  const CONTEXT = 5; // the text so far is drawn as so many places, however long it is
  const ROWS = 14; // more rows than this are drawn flatter
  const WAYS = [
    ["matrix", "every row, no cache"],
    ["matrix_kv", "every row over the cache"],
    ["single", "one pass, no cache"],
    ["single_kv", "one pass over the cache"],
  ];
  const KEYS = [["computed", "computed"], ["padded", "padding"], ["reused", "from the cache"]];
  const WHY = "A token is read together with what stands before it, never with what comes after. So the longest " +
    "row already holds every shorter one: one pass over it answers for all rows.";
  const WHY_TREE = "Branches that share a beginning share its places. One pass takes every token once, each hidden " +
    "from those that are not on its own branch.";

  // [{reused, computed, padded}], the places of every row of the pass that `backend` makes.
  function places(backend, step, context) {
    const cached = backend.endsWith("kv") && step.index ? context - 1 : 0;
    const drafted = step.tokens.length - 1;
    if (backend.startsWith("single")) return [{ reused: cached, computed: context - cached + drafted, padded: 0 }];
    const depths = [0];
    for (let i = 0; i < drafted; i++) depths.push(depths[step.rows[i]] + 1);
    const deepest = Math.max(...depths);
    return depths.map((d) => ({ reused: cached, computed: context - cached + d, padded: deepest - d }));
  }

  // How many tokens the target holds before the step: an encoder's prompt is none of its own.
  const held = ({ run }, step) => step.start - (run.encoded ? run.encoded - 1 : 0);

  class Backends {
    constructor() {
      this.cards = WAYS.map(([name, words]) => {
        const svg = shape("svg", { role: "img" });
        const cost = el("span", "st-cost");
        const told = el("p", "st-note");
        const node = el("div", "st-way", el("header", "", el("h3", "", Stairs.term(name, words)), cost),
          el("div", "st-places", svg), told);
        return { name, node, svg, cost, told };
      });
      const keys = KEYS.map(([kind, words]) => el("span", "", el("i", `st-place ${kind}`), words));
      this.why = el("p", "st-note");
      this.node = el("div", "st-ways", el("header", "", el("h2", "", "The same step, four ways"),
        el("span", "st-keys", ...keys)), el("div", "st-four", ...this.cards.map((c) => c.node)), this.why);
    }

    // tall: how many rows a step of this run may have.
    // passes: of this lane, by backend: seconds by width, from one token on (facts.passes).
    show(lane, step, tall, passes = NONE) {
      if (this.step === step && this.passes === passes) return;
      this.passes = passes;
      for (const { name, svg } of this.cards) {
        svg.parentNode.style.setProperty("--places", name.startsWith("single") ? 1 : Math.min(tall, ROWS));
      }
      this.step = step;
      this.node.hidden = Boolean(lane.run.engine); // a log does not tell
      this.node.style.visibility = step ? "" : "hidden";
      if (!step || lane.run.engine) return;
      const context = held(lane, step);
      for (const card of this.cards) this.draw(card, lane, step, context);
      set(this.why, step.parents ? WHY_TREE : WHY);
    }

    draw(card, lane, step, context) {
      const { run } = lane;
      const rows = places(card.name, step, context);
      const count = (kind) => rows.reduce((sum, row) => sum + row[kind], 0);
      const own = card.name === run.backend;
      card.node.classList.toggle("own", own);
      const seconds = this.passes[card.name]?.[step.tokens.length - 1];
      const measured = seconds === undefined ? "" : `about ${Stairs.seconds(seconds)}`;
      set(card.cost, own && step.verify_seconds ? `${Stairs.seconds(step.verify_seconds)} in this step` : measured);
      card.cost.title = own ? "On the engine clock, with the choice of tokens" :
        "A pass of this kind and width as measured before the run, over a text of about 100 tokens, at the pace of this run";
      const parts = KEYS.filter(([kind]) => count(kind)).map(([kind, words]) => `${count(kind)} ${words}`);
      const text = `${rows.length === 1 ? "1 row" : `${rows.length} rows`}: ${parts.join(", ")}`;
      set(card.told, text);
      card.svg.setAttribute("aria-label", `${card.name}, ${text} places`);
      picture(card.svg, rows, context);
    }
  }

  // Rows of three runs of places; the text so far shrunk to a few, with a break.
  function picture(svg, rows, context) {
    const shrunk = Math.min(context - 1, CONTEXT);
    const width = Math.max(...rows.map((r) => r.reused + r.computed + r.padded)) - (context - 1) + shrunk;
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
    rows.forEach(({ reused, computed, padded }, y) => {
      const short = (n) => (n >= context - 1 ? n - (context - 1) + shrunk : Math.min(n, shrunk));
      const [a, b] = [short(reused), short(reused + computed)];
      draw("reused", y, 0, a);
      draw("computed", y, a, b);
      draw("padded", y, b, b + padded);
    });
  }

  Object.assign(Stairs, { Backends, placesOf: places });
})((globalThis.Stairs ??= {}));
