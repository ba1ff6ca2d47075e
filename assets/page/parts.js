// The drawn parts of the stage. Each is made once and told what to show; text goes in by
// textContent only, since tokens and prompts may hold anything.
(function (Stairs) {
  "use strict";

  // el("p", "note", "text", child, …)
  function el(tag, name, ...content) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...content.filter((c) => c !== null && c !== ""));
    return node;
  }

  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // One lane: its clock, how far it is, and its text token by token.
  class LaneCard {
    constructor(name) {
      this.name = el("h2", "", name);
      this.clock = el("span", "st-clock");
      this.clock.title = "On the engine clock, which stands still while this page is drawn";
      this.fill = el("i", "");
      this.words = el("div", "st-words");
      this.words.dir = "auto";
      this.text = el("div", "st-text", this.words);
      this.text.tabIndex = 0;
      this.text.setAttribute("role", "region");
      this.bar = el("div", "st-bar", this.fill);
      const all = el("input", "");
      Object.assign(all, { type: "checkbox", checked: true });
      all.addEventListener("change", () => this.node.classList.toggle("kept-only", !all.checked));
      const toggle = el("label", "st-toggle", all, "wrong guesses");
      toggle.title = "Show the guesses that were rejected or never checked";
      const head = el("header", "", this.name, toggle, this.clock);
      this.node = el("section", "st-card st-lane plain", head, this.bar, this.text);
      this.steps = [];
    }

    reset(run, plain) {
      this.steps = [];
      this.words.textContent = "";
      this.shown = -1;
      this.node.classList.toggle("plain", plain);
      set(this.name, Stairs.readable(run.name));
      this.text.setAttribute("aria-label", `Text of the lane ${run.name}`);
      for (const piece of run.prompt_tokens) this.words.append(el("span", "st-prompt", Stairs.readable(piece)));
    }

    show({ lane, shown, tokens, seconds, plain }, current) {
      if (this.run !== lane.run) {
        this.run = lane.run;
        this.reset(lane.run, plain);
      }
      for (let i = this.steps.length; i < lane.steps.length; i++) this.append(lane.steps[i], plain);
      this.shade(shown, current);
      const rate = seconds ? (tokens / seconds).toFixed(1) : "–";
      set(this.clock, `${tokens} tokens · ${seconds.toFixed(2)} s · ${rate} tok/s`);
      this.fill.style.transform = `scaleX(${Math.min(1, tokens / lane.run.max_new_tokens)})`;
    }

    append(step, plain) {
      const group = el("span", "st-step");
      group.dataset.step = step.index;
      step.tokens.forEach((token, i) => {
        // A line end that was not kept must not end a line.
        const text = Stairs.committed(token) ? token.text : token.text.replace(/\n/g, "↵");
        const span = el("span", `st-t ${plain ? "plain" : token.status}`, Stairs.readable(text));
        if (/^\n+$/.test(text)) span.classList.add("end");
        span.dataset.token = i;
        group.append(span);
      });
      this.words.append(group);
      this.steps.push(group);
    }

    // Steps from `shown` on are still to come at this moment; `current` is under the cursor.
    shade(shown, current) {
      if (this.shown === shown && this.current === current) return;
      const from = this.shown < 0 ? 0 : Math.min(this.shown, shown);
      for (let i = from; i < this.steps.length; i++) this.steps[i].classList.toggle("later", i >= shown);
      this.steps[this.current]?.classList.remove("now");
      this.steps[current]?.classList.add("now");
      this.shown = shown;
      this.current = current;
    }

    // Scrolls this panel, and never the page, so that step `i` can be seen. The newest step needs
    // no such help: the panel is laid out from its end, which costs no measuring while it grows.
    follow(i) {
      const group = this.steps[i];
      if (!group) return;
      const box = this.text.getBoundingClientRect();
      const place = group.getBoundingClientRect();
      const seen = place.top > box.top + 8 && place.bottom < box.bottom - 8;
      if (!seen) this.text.scrollTop += place.top - box.top - box.height * 0.4;
    }
  }

  // The stairs of one step. Row i is the text so far plus the first i guesses; at its end stands
  // what the target says next. A prediction stands in the column of the guess it is compared with.
  class Staircase {
    constructor() {
      this.grid = el("div", "st-stairs");
      this.grid.setAttribute("role", "table");
      this.note = el("p", "st-note st-explain");
      this.detail = el("p", "st-note st-detail");
      this.grid.addEventListener("keydown", (e) => this.key(e));
      for (const kind of ["focusin", "mouseover"]) this.grid.addEventListener(kind, (e) => this.tell(e));
    }

    show(lane, step, tall) {
      this.grid.style.setProperty("--rows", tall);
      if (this.step === step) return;
      const focused = this.grid.contains(document.activeElement);
      this.step = step;
      this.grid.textContent = "";
      set(this.detail, "Point at a row, or reach it with ↑ ↓, to read what was compared.");
      set(this.note, step ? Stairs.explain(step) : "");
      if (!step) return;
      this.grid.setAttribute("aria-label", `Stairs: ${Stairs.headline(step)}`);
      const context = Stairs.visible(Stairs.before(lane, step.index, 9));
      step.predictions.forEach((said, i) => this.grid.append(this.row(step, context, said, i)));
      const kept = this.ends()[step.accepted];
      if (focused) kept.focus({ preventScroll: true });
      this.grid.classList.toggle("wide", this.grid.scrollWidth > this.grid.clientWidth);
      const beyond = kept.offsetLeft + kept.offsetWidth - this.grid.clientWidth;
      this.grid.scrollLeft = beyond > 0 ? beyond + 24 : 0;
    }

    row(step, context, said, i) {
      const kind = i < step.accepted ? "agree" : i === step.accepted ? "keep" : "unused";
      const row = el("div", `st-row ${kind}`);
      row.setAttribute("role", "row");
      row.dataset.row = i;
      const cell = (name, text, column) => {
        const node = el("span", `st-c ${name}`, text);
        node.setAttribute("role", "cell");
        node.style.gridArea = `${i + 1} / ${column}`;
        row.append(node);
        return node;
      };
      if (kind === "keep") {
        const light = el("span", "st-light");
        light.setAttribute("aria-hidden", "true");
        light.style.gridArea = `${i + 1} / 1 / auto / ${i + 3}`;
        row.append(light);
      }
      cell("context", `…${context}`, 1);
      for (let j = 0; j < i; j++) cell(step.tokens[j].status, Stairs.visible(step.tokens[j].text), j + 2);
      const own = step.tokens.at(-1).status;
      const end = cell(`says ${kind === "keep" ? own : kind}`, Stairs.visible(said.text), i + 2);
      end.tabIndex = i === step.accepted ? 0 : -1;
      end.setAttribute("aria-label", Stairs.row(step, i));
      return row;
    }

    ends() {
      return [...this.grid.querySelectorAll(".says")];
    }

    key(event) {
      const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      const ends = this.ends();
      ends[ends.indexOf(document.activeElement) + move]?.focus();
    }

    tell(event) {
      const row = event.target.closest(".st-row");
      if (row) set(this.detail, Stairs.row(this.step, Number(row.dataset.row)));
    }
  }

  // Every step as a small stack: filled is kept, outlined was drafted in vain.
  class Strip {
    constructor(choose) {
      this.node = el("div", "st-strip");
      this.node.setAttribute("aria-hidden", "true"); // the slider below says the same
      this.bars = [];
      this.node.addEventListener("click", (e) => {
        const bar = e.target.closest(".st-s");
        if (bar) choose(this.bars.indexOf(bar));
      });
    }

    show(lane, index, tall) {
      if (this.run !== lane.run) {
        this.run = lane.run;
        this.node.textContent = "";
        this.bars = [];
      }
      this.node.style.setProperty("--rows", tall);
      for (let i = this.bars.length; i < lane.steps.length; i++) {
        const bar = el("span", "st-s", ...lane.steps[i].tokens.map((t) => el("i", t.status)));
        bar.title = `Step ${i + 1}: ${Stairs.headline(lane.steps[i])}`;
        this.bars.push(bar);
        this.node.append(bar);
      }
      if (this.at === this.bars[index]) return;
      this.at?.classList.remove("on");
      this.at = this.bars[index];
      this.at?.classList.add("on");
    }

    follow() {
      if (!this.at) return;
      const left = this.at.offsetLeft - this.node.offsetLeft;
      if (left < this.node.scrollLeft || left > this.node.scrollLeft + this.node.clientWidth - 24) {
        this.node.scrollLeft = left - this.node.clientWidth / 2;
      }
    }
  }

  Object.assign(Stairs, { el, set, LaneCard, Staircase, Strip });
})((globalThis.Stairs ??= {}));
