// The stage: one cursor over the steps of a race, and everything that is drawn at it.
//
// Python sends `value = {run, trace, running, source, facts, table, …}`: `trace` is the lines of
// the trace, which only grow while `run` stays the same; `facts` holds the numbers and the verdict
// for each lane as the leading one, worded in Python from its metrics, `table` all lanes side by
// side. The rest is read off the trace.
//
// The race is always seen; below it is one of `Stairs.views`, each {id, label, make(stage)}, where
// make gives {node, show(view)}: `view` is what `look` (fold.js) says is to be seen.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const VIEW_MS = 200; // while a run streams, views change no faster than eyes can follow
  const SPOKEN_MS = 4000; // a screen reader is told no more often than this
  const MOST_AT_FIRST = 6; // rows for a run whose K is not constant, until a step has more
  const TREE = { rows: 11, stack: 8 }; // what is seen of a tree at once; the rest is scrolled to

  class Stage {
    // plotlyUrl: where this page's server has it; a replay, which is one file, has none.
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

    build(plotlyUrl) {
      this.numbers = el("div", "st-numbers");
      this.numbers.id = "summary";
      this.leading = el("p", "st-leading");
      this.table = new Stairs.Table((i) => this.choose(i));
      this.verdict = el("p", "st-verdict");
      this.verdict.id = "verdict";
      this.why = el("p", "st-why");
      this.source = el("p", "st-source");
      this.race = new Stairs.Race((at) => this.pick(at));
      this.cursorBar = new Stairs.Cursor(this);
      this.tabs = new Stairs.Tabs(Stairs.views, this, () => this.drawView());
      this.charts = new Stairs.Charts(plotlyUrl);
      this.keep = new Stairs.Keep(this);
      this.spoken = el("p", "st-spoken");
      this.spoken.setAttribute("aria-live", "polite");
      this.root.classList.add("st-stage");
      this.root.append(
        el("section", "st-card st-top", this.source, this.table.node, this.leading, this.numbers, this.verdict, this.why),
        this.race.node,
        this.cursorBar.node,
        this.tabs.node,
        this.charts.node,
        this.keep.node,
        el("section", "st-card st-words-of", Stairs.legend()),
        this.spoken,
      );
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

    // A recording: at the step that the address asks for, until the visitor has moved, since its run
    // may be shown soon, late or twice; or at one that tells much.
    open() {
      const { step, view } = !this.moved && this.meant() ? this.asked : {};
      const last = (this.fold.lead()?.steps.length || 0) - 1;
      if (view) this.tabs.open(view);
      this.at = step > 0 ? (step - 1 < last ? step - 1 : null) : Stairs.telling(this.fold.lead());
    }

    // Whether the run on show is the one that the address asks for, if it asks for any.
    meant() {
      if (!this.asked) return false;
      const { source, keep } = this.value;
      if (this.asked.trace) return source.kind === "link";
      return !this.asked.run || Stairs.asked(keep?.address).run === this.asked.run;
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

    // Another lane leads: its numbers, its stairs.
    choose(i) {
      this.cursorBar.halt();
      this.chosen = i;
      this.at = null;
      this.viewAt = 0;
      this.drawFacts();
      this.draw();
    }

    // On a phone the race is below the Run button.
    comeIntoView() {
      if (this.root.getBoundingClientRect().top < innerHeight * 0.6) return;
      this.root.scrollIntoView({ behavior: Stairs.calm() ? "auto" : "smooth" });
    }

    // What Python worded: numbers, verdict, where the run comes from.
    drawFacts() {
      const { facts, table, source, running } = this.value;
      const { lanes } = this.fold;
      const lead = Math.max(0, lanes.indexOf(this.lead));
      const { numbers, verdict, why } = facts[lead];
      this.root.classList.toggle("running", running);
      this.table.show(table, lanes, lead);
      this.leading.hidden = this.table.node.hidden;
      set(this.leading, this.lead ? `Numbers and stairs of: ${Stairs.readable(this.lead.run.name)}` : "");
      Stairs.tiles(this.numbers, numbers);
      set(this.verdict, verdict.text);
      this.verdict.className = `st-verdict ${verdict.state}`;
      set(this.why, why);
      set(this.source, Stairs.readable(source.text));
      this.source.className = `st-source ${source.kind}`;
      this.charts.show(this.value, lead);
      this.keep.show(this.value.keep, lead);
      this.speak(`${verdict.text} ${numbers.map((n) => `${n.label}: ${n.value}`).join(", ")}`);
    }

    // One drawing a frame, however many values arrive; the views less often.
    drawSoon() {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    }

    draw(moment = null) {
      const view = Stairs.look(this.fold, this.at, this.chosen, moment);
      if (!view.lead) return;
      const { tree, run, widest } = view.lead;
      view.passes = this.value.passes?.[this.fold.lanes.indexOf(view.lead)];
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

    // The cursor. The last step means: follow whatever comes.
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

    // Every lane as it was when the engine clock read `moment`; the cursor goes along.
    moveTo(moment) {
      this.at = Math.max(0, Stairs.stepsBy(this.lead.steps, moment) - 1);
      this.draw(moment);
    }

    // Playing has ended where it is.
    rest() {
      if (this.at !== null) this.go(this.at);
    }

    // A click on a token goes to its step; another lane that guesses leads from then on.
    pick({ step, lane }) {
      if (!Stairs.guesses(lane)) return;
      if (lane !== this.lead) this.choose(this.fold.lanes.indexOf(lane));
      this.go(step.index);
    }

    // The numbers, for a screen reader, now and then while they change and once they are final.
    speak(text) {
      clearTimeout(this.speaking);
      const wait = this.value.running ? Math.max(0, (this.spokenAt || 0) + SPOKEN_MS - Date.now()) : 300;
      this.speaking = setTimeout(() => {
        this.spokenAt = Date.now();
        set(this.spoken, text);
      }, wait);
    }
  }

  Object.assign(Stairs, { Stage });
})((globalThis.Stairs ??= {}));
