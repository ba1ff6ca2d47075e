// The stage: one cursor over the steps of a race, and everything that is drawn at it.
//
// Python sends `value = {run, trace, running, source, numbers, verdict, figure}`: `trace` is the
// text of the trace file, which only grows while `run` stays the same; `numbers` and `verdict` are
// worded in Python from its metrics; `figure` is plotly JSON. The rest is read off the trace.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const STAIRS_MS = 200; // while a run streams, the stairs change no faster than eyes can follow
  const SPOKEN_MS = 4000; // a screen reader is told no more often than this
  const PLAY_MS = 900;
  const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

  class Stage {
    constructor(root, plotlyUrl) {
      this.root = root;
      this.cursor = null;
      this.fold = new Stairs.Fold();
      this.build();
      this.lanes = ["Target alone", "Stairs"].map((name) => this.addLane(name));
      this.chart = new Stairs.Chart(this.chartNode, plotlyUrl);
      this.listen();
    }

    build() {
      const card = (name, ...content) => el("section", `st-card ${name}`, ...content);
      this.numbers = el("div", "st-numbers");
      this.numbers.id = "summary";
      this.verdict = el("p", "st-verdict");
      this.verdict.id = "verdict";
      this.source = el("p", "st-source");
      this.laneRow = el("div", "st-lanes");
      this.title = el("h2", "", "No step yet");
      this.time = el("span", "st-clock");
      this.stairs = new Stairs.Staircase();
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
        card("st-top", this.source, this.numbers, this.verdict),
        this.laneRow,
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
      this.laneRow.addEventListener("click", (e) => this.pick(e.target));
      this.laneRow.addEventListener("mouseover", (e) => this.hint(e.target));
    }

    // A new value from Python.
    update(value) {
      const other = value.run !== this.run;
      if (other) this.restart(value.run);
      if (other && value.running) this.comeIntoView();
      this.value = value;
      this.fold.push(value.trace);
      if (other && !value.running && value.trace) this.cursor = Stairs.telling(this.fold.lead);
      this.drawFacts();
      if (value.running) this.drawSoon();
      else this.draw();
    }

    restart(run) {
      this.run = run;
      this.halt();
      this.cursor = null;
      this.fold = new Stairs.Fold();
    }

    // On a phone the race is below the Run button.
    comeIntoView() {
      if (this.root.getBoundingClientRect().top < innerHeight * 0.6) return;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.root.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
    }

    // What Python worded: numbers, verdict, where the run comes from.
    drawFacts() {
      const { numbers, verdict, source, running } = this.value;
      this.root.classList.toggle("running", running);
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
      this.chart.show(this.value.figure);
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
      const view = Stairs.look(this.fold, this.cursor);
      if (!view.lead) return;
      const following = this.cursor === null;
      while (this.lanes.length > view.lanes.length) this.lanes.pop().node.remove();
      view.lanes.forEach((seen, i) => {
        this.lanes[i] ||= this.addLane("");
        this.lanes[i].show(seen, seen.lane === view.lead || !following ? seen.shown - 1 : -1);
        if (!following || !this.value.running) this.lanes[i].follow(seen.shown - 1);
      });
      const tall = view.lead.run.k + 1;
      this.strip.show(view.lead, view.index, tall);
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

    addLane(name) {
      const lane = new Stairs.LaneCard(name);
      this.laneRow.append(lane.node);
      return lane;
    }

    // The cursor. The last step means: follow whatever comes.
    go(index) {
      const total = this.fold.lead?.steps.length || 0;
      if (!total) return;
      const next = Math.max(0, Math.min(index, total - 1));
      this.cursor = next === total - 1 ? null : next;
      this.stairsAt = 0;
      this.draw();
    }

    step(by) {
      const total = this.fold.lead?.steps.length || 0;
      this.go((this.cursor ?? total - 1) + by);
    }

    key(event) {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
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

    // A click on a token of the leading lane goes to its step.
    pick(target) {
      const { step } = this.find(target);
      const view = Stairs.look(this.fold, this.cursor);
      if (step && view.lead.steps.includes(step)) this.go(step.index);
    }

    hint(target) {
      const { span, step, plain } = this.find(target);
      if (!span || span.title) return;
      const i = Number(span.dataset.token);
      const token = step.tokens[i];
      const row = i < step.tokens.length - 1 ? i : step.accepted;
      const said = row <= step.accepted ? `; margin ${step.predictions[row].margin.toPrecision(3)}` : "";
      const meaning = Stairs.MEANING[plain ? "plain" : token.status];
      span.title = `${Stairs.visible(token.text)} (token ${token.id})${said}\n${meaning}`;
    }

    find(target) {
      const span = target.closest(".st-t");
      const card = span && this.lanes.findIndex((l) => l.node.contains(span));
      const lane = span && this.fold.lanes[card];
      const step = lane && lane.steps[Number(span.parentNode.dataset.step)];
      return { span, step, plain: span && span.classList.contains("plain") };
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
