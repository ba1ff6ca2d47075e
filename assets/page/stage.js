// The stage: one cursor over the steps of a race, and everything that is drawn at it.
//
// Python sends `value = {run, trace, running, source, facts, table, figure}`: `trace` is the text
// of the trace file, which only grows while `run` stays the same; `facts` holds the numbers and the
// verdict for each lane as the leading one, worded in Python from its metrics, `table` all lanes
// side by side; `figure` is plotly JSON. The rest is read off the trace.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const STAIRS_MS = 200; // while a run streams, the stairs change no faster than eyes can follow
  const SPOKEN_MS = 4000; // a screen reader is told no more often than this
  const PLAY_MS = 900;
  const TREE = { rows: 11, stack: 8 }; // what is seen of a tree at once; the rest is scrolled to
  const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

  class Stage {
    constructor(root, plotlyUrl) {
      this.root = root;
      this.cursor = null;
      this.fold = new Stairs.Fold();
      this.build();
      this.chart = new Stairs.Chart(this.chartNode, plotlyUrl);
      this.listen();
    }

    build() {
      const card = (name, ...content) => el("section", `st-card ${name}`, ...content);
      this.numbers = el("div", "st-numbers");
      this.numbers.id = "summary";
      this.leading = el("p", "st-leading");
      this.table = new Stairs.Table((i) => this.choose(i));
      this.verdict = el("p", "st-verdict");
      this.verdict.id = "verdict";
      this.source = el("p", "st-source");
      this.race = new Stairs.Race((at) => this.pick(at));
      this.title = el("h2", "", "No step yet");
      this.time = el("span", "st-clock");
      this.stairs = new Stairs.Staircase((tokens) => this.race.mark(tokens));
      this.chartNode = el("div", "st-chart");
      this.chartNode.id = "chart";
      this.chartNode.setAttribute("role", "img");
      this.chartNode.setAttribute("aria-label", "Tokens against engine time, and speedup so far");
      this.strip = new Stairs.Strip((i) => this.go(i));
      this.slider = el("input", "st-scrub");
      Object.assign(this.slider, { type: "range", min: 0, max: 0, value: 0 });
      this.slider.setAttribute("aria-label", "Step");
      this.play = el("button", "st-button", "Play");
      this.play.type = "button";
      this.spoken = el("p", "st-spoken");
      this.spoken.setAttribute("aria-live", "polite");
      this.root.classList.add("st-stage");
      this.root.append(
        card("st-top", this.source, this.table.node, this.leading, this.numbers, this.verdict),
        this.race.node,
        el("div", "st-two",
          card("st-now", el("header", "", this.title, this.time), this.stairs.note,
            this.stairs.grid, this.stairs.detail),
          card("st-charted", el("header", "", el("h2", "", "Tokens against engine time")),
            this.chartNode)),
        card("st-all", el("header", "", el("h2", "", "Every step"), this.play), this.strip.node,
          this.slider, Stairs.legend()),
        this.spoken,
      );
    }

    listen() {
      this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
      this.play.addEventListener("click", () => this.toggle());
      this.root.tabIndex = -1;
      this.root.addEventListener("keydown", (e) => this.key(e));
    }

    // A new value from Python.
    update(value) {
      const other = value.run !== this.run;
      if (other) this.restart(value.run);
      if (other && value.running) this.comeIntoView();
      this.value = value;
      this.fold.push(value.trace);
      if (other && !value.running && value.trace) this.cursor = Stairs.telling(this.fold.lead());
      this.drawFacts();
      if (value.running) this.drawSoon();
      else this.draw();
    }

    restart(run) {
      this.run = run;
      this.halt();
      this.cursor = null;
      this.chosen = null;
      this.fold = new Stairs.Fold();
    }

    get lead() {
      return this.fold.lead(this.chosen);
    }

    // Another lane leads: its numbers, its stairs.
    choose(i) {
      this.halt();
      this.chosen = i;
      this.cursor = null;
      this.stairsAt = 0;
      this.drawFacts();
      this.draw();
    }

    // On a phone the race is below the Run button.
    comeIntoView() {
      if (this.root.getBoundingClientRect().top < innerHeight * 0.6) return;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.root.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
    }

    // What Python worded: numbers, verdict, where the run comes from.
    drawFacts() {
      const { facts, table, source, running } = this.value;
      const { lanes } = this.fold;
      const lead = Math.max(0, lanes.indexOf(this.lead));
      const { numbers, verdict } = facts[lead];
      this.root.classList.toggle("running", running);
      this.table.show(table, lanes, lead);
      this.leading.hidden = this.table.node.hidden;
      set(this.leading, this.lead ? `Numbers and stairs of: ${Stairs.readable(this.lead.run.name)}` : "");
      while (this.numbers.children.length > numbers.length) this.numbers.lastChild.remove();
      numbers.forEach((n, i) => {
        const tile = this.numbers.children[i] || this.numbers.appendChild(Stairs.tile());
        set(tile.children[0], n.value);
        set(tile.children[1], n.label);
        tile.title = n.meaning;
        tile.className = `st-tile ${n.tone}`;
      });
      set(this.verdict, verdict.text);
      this.verdict.className = `st-verdict ${verdict.state}`;
      set(this.source, Stairs.readable(source.text));
      this.source.className = `st-source ${source.kind}`;
      this.chart.show(this.value.figure, lead);
      this.speak(`${verdict.text} ${numbers.map((n) => `${n.label}: ${n.value}`).join(", ")}`);
    }

    // One drawing a frame, however many values arrive; the stairs less often.
    drawSoon() {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        this.draw();
      });
    }

    draw() {
      const view = Stairs.look(this.fold, this.cursor, this.chosen);
      if (!view.lead) return;
      const following = this.cursor === null;
      this.race.show(view, following, this.value.running);
      const { tree, run } = view.lead;
      const tall = tree ? TREE.rows : run.k + 1;
      this.strip.show(view.lead, view.index, tree ? TREE.stack : tall);
      this.drawScrubber(view);
      const now = performance.now();
      if (this.value.running && now - (this.stairsAt || 0) < STAIRS_MS) return;
      this.stairsAt = now;
      this.strip.follow();
      this.drawStep(view, tall);
    }

    drawStep(view, tall) {
      this.stairs.show(view.lead, view.step, tall);
      if (!view.step) {
        set(this.title, "No step yet");
        set(this.time, "");
        return;
      }
      set(this.title, `Step ${view.index + 1} of ${view.total}: ${Stairs.headline(view.step)}`);
      const { draft_seconds: draft, verify_seconds: verify } = view.step;
      const parts = [[draft, "guessing"], [verify, "checking"]].filter(([s]) => s > 0);
      set(this.time, parts.map(([s, what]) => `${Stairs.seconds(s)} ${what}`).join(" · "));
    }

    drawScrubber({ index, total, step }) {
      this.slider.max = Math.max(0, total - 1);
      this.slider.value = index;
      this.slider.disabled = total < 2;
      const words = step ? `Step ${index + 1} of ${total}: ${Stairs.headline(step)}` : "No step yet";
      this.slider.setAttribute("aria-valuetext", words);
    }

    // The cursor. The last step means: follow whatever comes.
    go(index) {
      const total = this.lead?.steps.length || 0;
      if (!total) return;
      const next = Math.max(0, Math.min(index, total - 1));
      this.cursor = next === total - 1 ? null : next;
      this.stairsAt = 0;
      this.draw();
    }

    step(by) {
      const total = this.lead?.steps.length || 0;
      this.go((this.cursor ?? total - 1) + by);
    }

    key(event) {
      if (event.altKey || event.ctrlKey || event.metaKey || event.target.type === "radio") return;
      if (event.key === " " && !event.target.closest("button, summary, [type=checkbox]")) {
        event.preventDefault();
        this.toggle();
        return;
      }
      const by = KEYS[event.key];
      if (by === undefined) return;
      event.preventDefault();
      this.halt();
      this.step(by);
    }

    toggle() {
      if (this.playing) return this.halt();
      if (this.cursor === null) this.go(0);
      this.root.classList.add("playing");
      set(this.play, "Pause");
      this.playing = setInterval(() => {
        this.step(1);
        if (this.cursor === null) this.halt();
      }, PLAY_MS);
    }

    halt() {
      clearInterval(this.playing);
      this.playing = null;
      this.root.classList.remove("playing");
      set(this.play, "Play");
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
