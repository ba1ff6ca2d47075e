// The stage: the page's results, from top to bottom, and the cursor over the steps of a race.
//
//   stage/facts     where the run was made, all lanes in a table, numbers, verdict
//   race/           every lane's clock and text
//   stage/cursor    the strip of all steps, the slider, stepping and playing
//   views/          one view of the step under the cursor at a time, under tabs
//   charts/         of the whole run
//   share/          links, pictures, code
//   stage/legend    what the marks and words mean
//
// Around the stage: the head and the line of notices (stage/mounts), the card before a run
// (stage/preflight), adding guessers (stage/guessers), the tour (tour/).
//
// Python sends the stage's value (stairs_core/web/stage_value.py). Its `trace`, the lines of the trace
// so far, only grows while `run` stays the same; all else is worded or drawn up in Python.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;
  const VIEW_MS = 200; // while a run streams, views are drawn at most this often
  const MOST_AT_FIRST = 6; // rows at first, for a run whose K is not constant
  const TREE = { rows: 11, stack: 8 }; // how much of a tree is seen without scrolling

  // The views of a step, in the order of their tabs. make(stage) gives {node, show(view)}, where `view`
  // is what `look` in trace/fold.js returns.
  const VIEWS = [
    { id: "stairs", label: "Stairs", make: (stage) => new Stairs.StepView(stage) },
    { id: "same", label: "Same text", make: (stage) => new Stairs.SameText(stage) },
    { id: "ledger", label: "Ledger", make: (stage) => new Stairs.Ledger(stage) },
    { id: "provenance", label: "Provenance", make: (stage) => new Stairs.Provenance(stage) },
  ];

  class Stage {
    // plotlyUrl: where this page's server has plotly.js; a replay, which is one file, has none.
    constructor(root, plotlyUrl) {
      this.root = root;
      this.online = Boolean(plotlyUrl);
      this.moved = false; // whether the visitor has moved the cursor
      this.at = null; // the step under the cursor; null: the newest, whatever it is
      this.fold = new Stairs.Fold();
      this.build(plotlyUrl);
      this.root.tabIndex = -1;
      this.root.addEventListener("keydown", (e) => this.cursorBar.key(e));
    }

    // The parts, from top to bottom.
    build(plotlyUrl) {
      this.facts = new Stairs.Facts((lane) => this.choose(lane));
      this.race = new Stairs.Race((at) => this.pick(at));
      this.cursorBar = new Stairs.Cursor(this);
      this.tabs = new Stairs.Tabs(VIEWS, this, () => this.drawView());
      this.charts = new Stairs.Charts(plotlyUrl);
      this.keep = new Stairs.Keep(this);
      const parts = [this.facts, this.race, this.cursorBar, this.tabs, this.charts, this.keep];
      const legend = el("section", "st-card st-words-of", Stairs.legend());
      this.root.classList.add("st-stage");
      this.root.append(...parts.map((part) => part.node), legend, this.facts.spoken);
    }

    // A new value from Python.
    update(value) {
      const other = value.run !== this.run;
      if (other) this.restart(value.run);
      if (other && value.running) this.comeIntoView();
      if (other && ["live", "file"].includes(value.source.kind) && value.trace) this.keep.forget();
      this.value = value;
      this.fold.push(value.trace);
      if (other && !value.running && value.trace) this.open();
      this.drawFacts();
      if (value.running) this.drawSoon();
      else this.draw();
    }

    // Opens a recording at the step that the address asks for, or else at a telling one. The run of the
    // address may arrive late or twice: once the visitor has moved the cursor, it is not moved again.
    open() {
      const { step, view } = !this.moved && this.meant() ? this.asked : {};
      const last = (this.fold.lead()?.steps.length || 0) - 1;
      if (view) this.tabs.open(view);
      this.at = step > 0 ? (step - 1 < last ? step - 1 : null) : Stairs.telling(this.fold.lead());
    }

    // Whether the address asks for the run that is shown, or for none.
    meant() {
      if (!this.asked) return false;
      const { source, keep } = this.value;
      if (this.asked.trace) return source.kind === "link";
      return !this.asked.run || Stairs.asked(keep?.address).run === this.asked.run;
    }

    // The run on show, for a page that opens anew (stage/connection.js); null without one. Of a recorded
    // run, which the server has, the name is enough.
    kept() {
      const { trace, source } = this.value || {};
      if (!trace) return null;
      return { kind: source.kind, name: source.name, trace: source.kind === "recorded" ? "" : Stairs.traceFile(trace) };
    }

    restart(run) {
      this.run = run;
      this.cursorBar.halt();
      this.at = null;
      this.chosen = null;
      this.fold = new Stairs.Fold();
    }

    get lead() {
      return this.fold.lead(this.chosen);
    }

    get cursor() {
      return this.at;
    }

    // When the last lane ends, on the engine clock.
    get end() {
      return Math.max(0, ...this.fold.lanes.map((lane) => lane.steps.at(-1)?.elapsed || 0));
    }

    // Makes lane i lead: its numbers and its stairs are shown.
    choose(i) {
      this.cursorBar.halt();
      this.chosen = i;
      this.at = null;
      this.viewAt = 0;
      this.drawFacts();
      this.draw();
    }

    // Scrolls to the race: on a phone it is below the Run button.
    comeIntoView() {
      if (this.root.getBoundingClientRect().top < innerHeight * 0.6) return;
      this.root.scrollIntoView({ behavior: Stairs.calm() ? "auto" : "smooth" });
    }

    // What Python worded; it depends on which lane leads, not on the cursor.
    drawFacts() {
      const { lanes } = this.fold;
      const lead = Math.max(0, lanes.indexOf(this.lead));
      this.root.classList.toggle("running", this.value.running);
      this.facts.show(this.value, lanes, lead);
      this.charts.show(this.value, lead);
      this.keep.show(this.value.keep, lead);
    }

    // Draws at most once a frame, however many values arrive.
    drawSoon() {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    }

    // Draws all that depends on the cursor; the views less often while a run streams. moment: while
    // playing at the speed of the engine clock, its reading.
    draw(moment = null) {
      const view = Stairs.look(this.fold, this.at, this.chosen, moment);
      if (!view.lead) return;
      const { tree, run, widest } = view.lead;
      const at = this.fold.lanes.indexOf(view.lead);
      view.passes = this.value.passes?.[at];
      view.ahead = this.value.facts[at]?.ahead || "";
      view.tall = tree ? TREE.rows : run.length === "constant" ? run.k + 1 : Math.max(MOST_AT_FIRST, widest);
      this.race.show(view, this.value.running);
      this.race.tell(this.value.wall);
      this.cursorBar.show(view, tree ? TREE.stack : view.tall);
      this.view = view;
      const now = performance.now();
      if (this.value.running && now - (this.viewAt || 0) < VIEW_MS) return;
      this.viewAt = now;
      this.cursorBar.tell(view);
      this.drawView();
    }

    drawView() {
      if (!this.view) return;
      this.tabs.show(this.view);
      this.keep.follow();
    }

    // Marks where `tokens` of the leading lane were copied from, in the texts of the race.
    mark(tokens) {
      this.race.mark(tokens);
    }

    // Moves the cursor to a step; at the last one it follows the run.
    go(index) {
      const total = this.lead?.steps.length || 0;
      if (!total) return;
      const next = Math.max(0, Math.min(index, total - 1));
      this.at = next === total - 1 ? null : next;
      this.viewAt = 0;
      this.moved = true;
      this.draw();
    }

    step(by) {
      const total = this.lead?.steps.length || 0;
      this.go((this.at ?? total - 1) + by);
    }

    // Shows every lane as it was at `moment` of the engine clock, and moves the cursor there.
    moveTo(moment) {
      this.at = Math.max(0, Stairs.stepsBy(this.lead.steps, moment) - 1);
      this.draw(moment);
    }

    // Playing was paused: stays at the step.
    rest() {
      if (this.at !== null) this.go(this.at);
    }

    // A click on a token goes to its step; another lane that guesses leads from then on.
    pick({ step, lane }) {
      if (!Stairs.guesses(lane)) return;
      if (lane !== this.lead) this.choose(this.fold.lanes.indexOf(lane));
      this.go(step.index);
    }
  }

  Object.assign(Stairs, { Stage });
})((globalThis.Stairs ??= {}));
