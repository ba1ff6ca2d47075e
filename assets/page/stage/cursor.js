// The cursor over the steps: the strip of all steps, the slider, and the buttons that step and play.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const STEP_MS = 900;
  const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
  // How fast to play: [name, speed as a multiple of the engine clock; 0: a step at a time].
  const PACES = [["step by step", 0], ["¼ × engine speed", 0.25], ["1 × engine speed", 1], ["4 × engine speed", 4]];

  class Cursor {
    // Moves the stage (go, step, moveTo) and reads where it is (lead, cursor).
    constructor(stage) {
      this.stage = stage;
      this.strip = new Stairs.Strip((i) => stage.go(i));
      this.slider = el("input", "st-scrub");
      Object.assign(this.slider, { type: "range", min: 0, max: 0, value: 0 });
      this.slider.setAttribute("aria-label", "Step");
      this.title = el("h2", "", "No step yet");
      this.time = el("span", "st-clock");
      this.play = Stairs.button("Play", () => this.toggle(), "Space");
      this.pace = el("select", "st-select", ...PACES.map(([name, rate]) => {
        const option = el("option", "", name);
        option.value = rate;
        return option;
      }));
      this.pace.setAttribute("aria-label", "How fast to play");
      this.back = Stairs.button("‹", () => stage.step(-1), "←", "One step back");
      this.on = Stairs.button("›", () => stage.step(1), "→", "One step on");
      const moves = el("span", "st-moves", this.back, this.play, this.on, this.pace);
      this.node = el("section", "st-card st-cursor",
        el("header", "", this.title, this.time, moves), this.strip.node, this.slider);
      this.slider.addEventListener("input", () => stage.go(Number(this.slider.value)));
      this.pace.addEventListener("change", () => this.playing && this.start());
    }

    show(view, tall) {
      const { index, total, step, lead } = view;
      this.node.style.setProperty("--rows", tall);
      this.strip.show(lead, index);
      this.slider.max = Math.max(0, total - 1);
      this.slider.value = index;
      this.slider.disabled = total < 2;
      const words = step ? `${Stairs.which(step, total)}: ${Stairs.headline(step)}` : "No step yet";
      const unordered = Boolean(step?.untold); // steps in no known order cannot be played
      for (const control of [this.play, this.pace]) control.disabled = unordered;
      this.play.title = unordered ? "The order of these steps is not known" : "(Space)";
      this.slider.setAttribute("aria-valuetext", words);
    }

    // Title and times of the step; updated less often than `show` while a run streams.
    tell({ total, step }) {
      this.strip.follow();
      set(this.title, step ? `${Stairs.which(step, total)}: ${Stairs.headline(step)}` : "No step yet");
      const parts = [[step?.draft_seconds, "guessing"], [step?.verify_seconds, "checking"]];
      set(this.time, parts.filter(([s]) => s > 0).map(([s, what]) => `${Stairs.seconds(s)} ${what}`).join(" · "));
    }

    key(event) {
      const { target } = event;
      if (event.altKey || event.ctrlKey || event.metaKey || target.type === "radio") return;
      if (target.closest("select, textarea, [role=tab], [type=text], [type=number]")) return;
      if (event.key === " " && !target.closest("button, summary, a, [type=checkbox]")) {
        event.preventDefault();
        this.toggle();
        return;
      }
      const by = KEYS[event.key];
      if (by === undefined) return;
      event.preventDefault();
      this.halt();
      this.stage.step(by);
    }

    toggle() {
      if (this.playing) this.halt();
      else if (this.stage.lead?.steps.length && !this.stage.lead.run.untold) this.start();
    }

    start() {
      clearInterval(this.timer);
      if (this.stage.cursor === null) this.stage.go(0);
      this.stage.root.classList.add("playing");
      set(this.play.firstChild, "Pause");
      this.playing = true;
      const rate = Number(this.pace.value);
      if (rate) this.run(rate);
      else this.timer = setInterval(() => this.one(), STEP_MS);
    }

    one() {
      this.stage.step(1);
      if (this.stage.cursor === null) this.halt();
    }

    // Plays all lanes together along the engine clock.
    run(rate) {
      const { steps } = this.stage.lead;
      const first = steps[this.stage.cursor ?? 0].elapsed;
      const began = performance.now();
      const end = this.stage.end;
      const frame = () => {
        if (!this.playing || Number(this.pace.value) !== rate) return;
        const moment = first + ((performance.now() - began) / 1000) * rate;
        if (moment >= end) return this.finish();
        this.stage.moveTo(moment);
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    }

    finish() {
      this.halt();
      this.stage.go(Infinity);
    }

    halt() {
      clearInterval(this.timer);
      if (!this.playing) return;
      this.playing = false;
      this.stage.root.classList.remove("playing");
      set(this.play.firstChild, "Play");
      this.stage.rest();
    }
  }

  Object.assign(Stairs, { Cursor });
})((globalThis.Stairs ??= {}));
