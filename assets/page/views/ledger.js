// The ledger: what every step took, and what the target alone took for the same tokens in this race.
(function (Stairs) {
  "use strict";

  const { el, shape, set } = Stairs;
  const TICKS = 4; // at most about this many on an axis
  const [NARROW, WIDE] = [34, 72]; // the least and the most px of a step
  const HEADS = ["Step", "Tokens", "Guesses", "Wasted", "Guessing", "Checking", "The rest", "Target alone",
    "Gained", "So far"];
  const NOTHING = "This run guesses nothing: there is nothing to gain or lose.";
  const NO_TIMES = "This log tells no times: what a step gained or lost is not known.";
  const NO_PLAIN = "The target alone did not run in this race, so what it takes for these tokens was not " +
    "measured: gains and losses are not known.";

  const AHEAD = "Every pass here also reads tokens that are no guesses: the next guesses come from them. What that " +
    "costs is part of the checking.";

  // Seconds after which `lane` had `tokens` tokens; undefined if it has not come that far.
  function reached(lane, tokens) {
    const i = lane.counts[tokens - 1] === tokens ? tokens - 1 : lane.counts.indexOf(tokens);
    return tokens ? lane.steps[i]?.elapsed : 0;
  }

  // Step i in numbers, times in seconds. plain: what the target alone took for its tokens; gained: plain
  // less what the step took; total: gained since the start. All three are undefined if the target alone
  // has not come that far.
  function account(lane, alone, i) {
    const step = lane.steps[i];
    const [before, after] = [lane.counts[i - 1] || 0, lane.counts[i]];
    const took = step.elapsed - (lane.steps[i - 1]?.elapsed || 0);
    const { draft_seconds: guessing, verify_seconds: checking } = step;
    const end = reached(alone, after);
    const plain = end === undefined ? undefined : end - reached(alone, before);
    return {
      tokens: after - before,
      guesses: step.drafted.length,
      wasted: step.drafted.filter((t) => t.status !== "accepted").length,
      guessing, checking, rest: Math.max(0, took - guessing - checking), took, plain,
      gained: plain === undefined ? undefined : plain - took,
      total: plain === undefined ? undefined : end - step.elapsed,
    };
  }

  // Milliseconds with their sign.
  const signed = (seconds) => `${seconds < 0 ? "−" : "+"}${Math.abs(seconds) < 0.00995
    ? Math.abs(seconds * 1000).toFixed(1) : Math.round(Math.abs(seconds * 1000))}`;
  const many = (n, one, more = `${one}s`) => `${n} ${n === 1 ? one : more}`;
  const verdict = (seconds) => `${Stairs.seconds(Math.abs(seconds))} ${seconds < 0 ? "lost" : "gained"}`;

  function sentence(entry, i, alone) {
    const took = `Step ${i + 1} took ${Stairs.seconds(entry.took)} for ${many(entry.tokens, "token")}`;
    const guesses = many(entry.guesses, "guess", "guesses");
    const wasted = !entry.guesses ? "nothing was guessed"
      : `${entry.wasted || "none"} of ${guesses} ${entry.wasted === 1 ? "was" : "were"} wasted`;
    if (entry.plain === undefined) {
      const why = alone.stop ? "ended before it wrote as many" : "has not come so far yet";
      return `${took}; ${wasted}. The target alone ${why}, so there is nothing to compare.`;
    }
    return `${took}, which cost the target alone ${Stairs.seconds(entry.plain)}: ${verdict(entry.gained)}; ` +
      `${wasted}. So far ${verdict(entry.total)}.`;
  }

  // The distance between ticks: 1, 2 or 5 times a power of ten.
  function pitch(span) {
    const rough = span / TICKS;
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].find((f) => f * power >= rough) * power;
  }

  // A panel with its scale. Columns are placed by CSS variables, so that a new scale redraws none of them.
  class Panel {
    // zero: the label of its zero line.
    constructor(name, words, zero) {
      this.zero = zero;
      this.ticks = el("div", "st-axis");
      this.node = el("div", `st-panel ${name}`, el("span", "st-axis-title", words));
      this.range = [0, 0];
      this.lines = el("div", "st-gridlines");
    }

    // low, high: the extremes drawn, in ms. True if the scale has changed.
    scale(low, high) {
      const by = pitch(Math.max(high - low, 1e-3));
      const [from, to] = [Math.floor(Math.min(low, 0) / by) * by, Math.ceil(Math.max(high, by / 1e3) / by) * by];
      if (from === this.range[0] && to === this.range[1]) return false;
      this.range = [from, to];
      const ticks = [];
      for (let n = Math.round(from / by); n <= Math.round(to / by); n++) ticks.push(n * by);
      const place = (node, value) => {
        node.style.setProperty("--at", (value - from) / (to - from));
        node.classList.toggle("zero", Math.abs(value) < by / 2);
        return node;
      };
      const word = (v) => (Math.abs(v) < by / 2 ? this.zero : `${v < 0 ? "−" : "+"}${Number(Math.abs(v).toPrecision(3))}`);
      this.ticks.replaceChildren(...ticks.map((v) => place(el("span", "", word(v)), v)));
      this.lines.replaceChildren(...ticks.map((v) => place(el("i", ""), v)));
      return true;
    }
  }

  class Ledger {
    constructor(stage) {
      this.stage = stage;
      this.totals = el("div", "st-numbers st-sums");
      this.why = el("p", "st-note");
      this.note = el("p", "st-note st-explain");
      this.running = new Panel("running", "gained so far, ms", "break-even");
      this.each = new Panel("each", "by each step, ms", "0");
      this.line = shape("svg", { preserveAspectRatio: "none" });
      this.paths = ["area", "ahead", "done"].map((name) => this.line.appendChild(shape("path", { class: name })));
      this.columns = el("div", "st-accounts");
      this.plot = el("div", "st-book", this.running.lines, this.each.lines, this.line, this.columns);
      this.scroller = el("div", "st-ledger-line", this.axes(), this.plot);
      this.scroller.tabIndex = 0;
      this.scroller.setAttribute("role", "region");
      this.scroller.setAttribute("aria-label", "Gain or loss of every step; the table below says the same");
      this.table();
      this.ahead = el("p", "st-note st-ahead"); // what it costs to read tokens for the next guesses
      this.body = el("div", "", this.totals, this.scroller, this.keys(), this.note, this.ahead);
      this.node = el("div", "st-ledger", this.why, this.body, this.twin);
      const over = (e) => Number(e.target.closest(".st-account")?.dataset.step ?? this.index);
      this.plot.addEventListener("click", (e) => stage.go(over(e)));
      this.plot.addEventListener("mousemove", (e) => this.tell(over(e)));
      this.plot.addEventListener("mouseleave", () => this.tell(this.index));
    }

    axes() {
      const node = el("div", "st-axes", this.running.node, this.each.node,
        el("div", "st-panel waste", el("span", "st-axis-title", "wasted guesses")));
      this.running.node.append(this.running.ticks);
      this.each.node.append(this.each.ticks);
      node.setAttribute("aria-hidden", "true");
      return node;
    }

    keys() {
      const key = (kind, words) => el("span", "", el("i", `st-key ${kind}`), words);
      return el("div", "st-keys", key("gain", "faster than the target alone"), key("loss", "slower"),
        key("waste", "guesses that were wasted"));
    }

    table() {
      const head = el("tr", "", ...HEADS.map((name) => el("th", "", name)));
      const caption = el("caption", "st-spoken", "Every step: times in milliseconds");
      this.rows = el("tbody", "");
      const table = el("table", "", caption, el("thead", "", head), this.rows);
      this.twin = el("details", "st-twin", el("summary", "", "As a table, in ms"), el("div", "st-table", table));
      this.twin.addEventListener("toggle", () => this.fill());
    }

    show(view) {
      const { lead, alone, index } = view;
      if (this.lead !== lead || this.alone !== alone) this.restart(lead, alone);
      const [first] = lead.steps;
      const timed = lead.steps.at(-1)?.elapsed && (!alone || !alone.steps.length || alone.steps.at(-1).elapsed);
      const why = lead === alone || !Stairs.guesses(lead) ? NOTHING : first && !timed ? NO_TIMES
        : !alone ? NO_PLAIN : "";
      set(this.why, why);
      this.body.hidden = this.twin.hidden = Boolean(why);
      if (why || !first) return;
      this.grow();
      this.sum();
      this.ahead.hidden = !lead.ahead;
      set(this.ahead, view.ahead || AHEAD);
      this.draw(index);
      this.fill();
      this.tell(index);
    }

    restart(lead, alone) {
      Object.assign(this, { lead, alone, entries: [], bars: [], priced: 0, filled: 0, index: -1 });
      Object.assign(this, { low: 0, high: 0, least: 0, most: 0, at: null, parted: null, drawn: "" });
      this.columns.replaceChildren();
      this.rows.replaceChildren();
    }

    // Adds new steps, and prices those that the target alone has reached since the last call.
    grow() {
      const { lead, alone } = this;
      for (let i = this.priced; i < lead.steps.length; i++) {
        const entry = account(lead, alone, i);
        this.entries[i] = entry;
        if (!this.bars[i]) this.columns.append((this.bars[i] = this.bar(i, entry)));
        if (entry.plain === undefined) continue;
        this.priced = i + 1;
        this.price(this.bars[i], entry);
      }
      this.plot.style.minWidth = `${NARROW * lead.steps.length}px`;
      this.plot.style.maxWidth = `${WIDE * lead.steps.length}px`;
      this.running.scale(this.least * 1000, this.most * 1000);
      if (!this.each.scale(this.low * 1000, this.high * 1000)) return;
      const [from, to] = this.each.range; // every bar inherits these, so set them only on a change
      this.plot.style.setProperty("--from", from);
      this.plot.style.setProperty("--to", to);
    }

    bar(i, { guesses, wasted }) {
      const waste = el("span", `st-waste${wasted ? "" : " none"}`, el("span", "", wasted ? String(wasted) : ""));
      waste.style.setProperty("--share", wasted / Math.max(1, guesses));
      const node = el("div", "st-account later", el("span", "st-profit unknown", el("i", ""), el("span", "", "?")), waste);
      node.dataset.step = i;
      return node;
    }

    price(node, { gained, total }) {
      const [profit] = node.children;
      profit.className = `st-profit ${gained < 0 ? "loss" : "gain"}`;
      profit.style.setProperty("--v", Math.abs(gained * 1000));
      set(profit.lastChild, signed(gained));
      this.low = Math.min(this.low, gained);
      this.high = Math.max(this.high, gained);
      this.least = Math.min(this.least, total);
      this.most = Math.max(this.most, total);
    }

    // The sum over all priced steps: target alone − guessing − checking − the rest = gained or lost.
    sum() {
      const known = this.entries.slice(0, this.priced);
      const total = (what) => known.reduce((sum, entry) => sum + entry[what], 0);
      const gained = known.at(-1)?.total || 0;
      const of = this.priced < this.entries.length ? ` in the first ${many(this.priced, "step")} of ${this.entries.length}` : "";
      const tile = (value, label, meaning, tone = "") => ({ value, label, meaning, tone });
      Stairs.tiles(this.totals, [
        tile(Stairs.seconds(total("plain")), "the target alone", "Measured in this race, for the very same tokens"),
        tile(`− ${Stairs.seconds(total("guessing"))}`, "guessing", "Time of the draft"),
        tile(`− ${Stairs.seconds(total("checking"))}`, "checking", this.lead.ahead ?
          "Time of the target, and in it what it read for the next guesses" : "Time of the target"),
        tile(`− ${Stairs.seconds(total("rest"))}`, "the rest", "Acceptance, bookkeeping"),
        tile(`= ${Stairs.seconds(Math.abs(gained))}`, (gained < 0 ? "lost" : "gained") + of,
          "The clock of the target alone less that of this lane, at the same token", gained < 0 ? "big slower" : "big"),
      ]);
    }

    draw(index) {
      const totals = this.entries.slice(0, this.priced).map((entry) => entry.total * 1000);
      const [from, to] = this.running.range;
      const state = `${totals.length} ${index} ${from} ${to} ${this.entries.length}`;
      if (state === this.drawn) return;
      this.drawn = state;
      this.line.setAttribute("viewBox", `0 ${-to} ${this.entries.length} ${to - from}`);
      const points = totals.map((v, i) => `${i + 0.5} ${-v}`);
      const path = (list) => (list.length ? `M ${list.join(" L ")}` : "");
      const past = points.slice(0, index + 1);
      const closed = past.length ? `${path(past)} L ${past.length - 0.5} 0 L 0.5 0 Z` : "";
      [closed, path(points.slice(Math.max(0, index))), path(past)].forEach((d, i) => this.paths[i].setAttribute("d", d));
      const [first, last] = [Math.min(this.index, index), Math.max(this.index, index)];
      for (let i = Math.max(0, first); i <= last; i++) this.bars[i].classList.toggle("later", i > index);
      this.at?.classList.remove("on");
      this.at = this.bars[index];
      this.at.classList.add("on");
      if (this.index !== index) this.follow();
      this.index = index;
    }

    follow() {
      const { scroller, at } = this;
      const axes = scroller.firstChild.offsetWidth;
      const left = at.offsetLeft;
      const room = scroller.clientWidth - axes;
      if (left >= scroller.scrollLeft && left + at.offsetWidth <= scroller.scrollLeft + room) return;
      scroller.scrollLeft = left - room * 0.4;
    }

    tell(i) {
      if (this.entries[i]) set(this.note, sentence(this.entries[i], i, this.alone) + this.differ(i));
    }

    // Once the texts differ, times are compared for equally many tokens, not for the same ones.
    differ(i) {
      const at = this.parting();
      if (at < 0 || at >= this.lead.counts[i]) return "";
      return ` From new token ${at + 1} on the two texts differ: what is compared is the time for as many tokens.`;
    }

    parting() {
      if (this.parted !== null) return this.parted;
      const ids = (lane) => lane.steps.flatMap((s) => s.tokens.filter(Stairs.committed).map((t) => t.id));
      const [mine, other] = [ids(this.lead), ids(this.alone)];
      const at = mine.findIndex((id, i) => i < other.length && id !== other[i]);
      if (at >= 0 || (this.lead.stop && this.alone.stop)) this.parted = at;
      return at;
    }

    // The same numbers as a table, filled only while it is open.
    fill() {
      if (!this.twin.open) return;
      const ms = (v) => (v === undefined ? "–" : (v * 1000).toFixed(2));
      for (let i = this.filled; i < this.entries.length; i++) {
        const e = this.entries[i];
        const texts = [e.tokens, e.guesses, e.wasted, ...[e.guessing, e.checking, e.rest, e.plain, e.gained, e.total].map(ms)];
        const row = this.rows.rows[i] || this.rows.appendChild(el("tr", "", el("th", "", String(i + 1)),
          ...texts.map(() => el("td", ""))));
        texts.forEach((text, j) => set(row.cells[j + 1], String(text)));
      }
      this.filled = this.priced;
    }
  }

  Object.assign(Stairs, { Ledger });
})((globalThis.Stairs ??= {}));
