// The stairs of one step; a tree where the guess had branches.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;

  // One more sentence on the masks after every row, if there are any.
  function ofMasks(count) {
    if (!count) return "";
    const number = Stairs.number(count);
    const group = count === 1 ? "A mask" : `${number[0].toUpperCase()}${number.slice(1)} masks`;
    return ` ${group} stood after each row, in the same pass; what the target says at those of the row in use is ` +
      "guessed next.";
  }

  const HEADS = "The guesses come from heads: small networks that were trained on the target. They read its hidden " +
    "state at the last token that it has read, so no second model runs.";
  const NO_STATE = "nothing yet: the target has read no text";

  // Where a head's guesses come from, drawn as a line of boxes.
  class Source {
    constructor() {
      this.line = el("div", "st-heads");
      this.line.tabIndex = 0;
      this.line.setAttribute("role", "group");
      this.line.setAttribute("aria-label", "Where the guesses come from");
      this.words = el("p", "st-note st-of-heads");
      this.node = el("div", "", this.line, this.words);
      Stairs.caption(this.words, HEADS);
    }

    show({ run }, step) {
      const heads = Stairs.words.heads.includes(run.drafter);
      this.node.hidden = !heads || !step;
      if (this.node.hidden) return;
      const part = (words, kind = "") => el("span", `st-part ${kind}`, words);
      const to = () => el("span", "st-to", "→");
      const name = run.drafter === "medusa" ? "head" : "guess";
      const said = step.drafted.map((token, i) => el("span", "", `${name} ${i + 1}`,
        el("span", `st-c ${token.status}`, Stairs.cell(token))));
      const tree = step.parents && said.length ? [part(`a tree of ${Stairs.number(said.length)}`)] : null;
      this.line.replaceChildren(el("div", "", part("the target's last pass"), to(), part("its state", "state"), to()),
        el("div", "", ...(said.length ? tree || said : [part(NO_STATE)])));
    }
  }

  // Cells in a grid. In a chain, row i is the text so far and the first i guesses; its last cell is the
  // target's next token, in the column of the guess that it is compared with. In a tree, every token
  // stands right of the one that it follows, and the first line is the path that the text took.
  class Staircase {
    constructor(mark) {
      this.mark = mark; // called with the tokens that are pointed at
      this.grid = el("div", "st-stairs");
      this.note = el("p", "st-note st-explain");
      this.detail = el("p", "st-note st-detail");
      this.grid.addEventListener("keydown", (e) => this.key(e));
      for (const kind of ["focusin", "mouseover"]) this.grid.addEventListener(kind, (e) => this.tell(e));
      for (const kind of ["focusout", "mouseleave"]) this.grid.addEventListener(kind, () => this.rest());
    }

    show(lane, step, tall) {
      this.grid.style.setProperty("--rows", tall);
      if (this.step === step) return;
      const focused = this.grid.contains(document.activeElement);
      this.step = step;
      this.grid.textContent = "";
      const masks = step && lane.run.drafter === "space" ? (step.probe || 0) / step.predictions.length : 0;
      this.note.classList.toggle("longer", lane.run.drafter === "space");
      set(this.note, step ? Stairs.explain(step) + ofMasks(masks) : "");
      this.rest();
      if (!step) return;
      const tree = Boolean(step.parents);
      this.grid.setAttribute("role", tree ? "tree" : "table");
      this.grid.setAttribute("aria-label", `${tree ? "Tree" : "Stairs"}: ${Stairs.headline(step)}`);
      this.grid.classList.toggle("tree", tree);
      const context = `…${Stairs.visible(Stairs.before(lane, step.index, 9))}`;
      if (tree) this.drawTree(step, context);
      else step.predictions.forEach((predicted, i) => this.grid.append(this.row(step, context, predicted, i)));
      if (masks) this.drawMasks(step, masks);
      this.fit(lane, step);
      const kept = this.grid.querySelector("[tabindex='0']");
      if (focused) kept.focus({ preventScroll: true });
      this.grid.scrollTo(this.start(kept), 0);
    }

    // Stairs that are too wide show less of the text so far; it stays in place while the rest scrolls.
    fit(lane, step) {
      const wide = this.grid.scrollWidth > this.grid.clientWidth;
      this.grid.classList.toggle("wide", wide);
      if (!wide) return;
      const context = `…${Stairs.visible(Stairs.before(lane, step.index, 3))}`;
      for (const cell of this.grid.querySelectorAll(".context")) set(cell, context);
    }

    // SPACE: a group of masks after every row. The kept row's group gives the next guesses.
    drawMasks(step, count) {
      step.predictions.forEach((_, i) => {
        const masks = el("span", `st-masks${i === step.kept ? " keep" : ""}`, "▢".repeat(count));
        masks.setAttribute("aria-hidden", "true");
        masks.style.gridArea = `${i + 1} / ${i + 3}`;
        this.grid.children[i].append(masks);
      });
    }

    // How far to scroll so that the node `kept` is seen and a cell begins right of the text so far.
    start(kept) {
      const beyond = kept.offsetLeft + kept.offsetWidth + 8 - this.grid.clientWidth;
      if (beyond <= 0) return 0;
      const cells = [...this.grid.querySelectorAll(".st-c:not(.context)")].map((cell) => cell.offsetLeft);
      const first = Math.min(...cells);
      return Math.min(...cells.map((left) => left - first).filter((left) => left >= beyond), kept.offsetLeft - first);
    }

    row(step, context, predicted, i) {
      const kind = i < step.kept ? "agree" : i === step.kept ? "keep" : "unused";
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
      cell("context", context, 1);
      for (let j = 0; j < i; j++) cell(step.tokens[j].status, Stairs.cell(step.tokens[j]), j + 2);
      const own = step.tokens.at(-1).status;
      const text = Stairs.cell(Stairs.taken(step, i) || predicted);
      const end = cell(`says ${kind === "keep" ? own : kind}`, text, i + 2);
      end.tabIndex = i === step.kept ? 0 : -1;
      end.setAttribute("aria-label", this.words(i));
      return row;
    }

    // Draws every token in the column of its depth, with a line from the one it follows.
    drawTree(step, context) {
      const path = new Set(Stairs.path(step));
      const last = step.tokens.length - 1;
      const after = new Map(); // row -> tokens that follow it, the one of the text first
      step.tokens.forEach((token, i) => {
        const others = after.get(step.rows[i]) || [];
        after.set(step.rows[i], i === last || path.has(i + 1) ? [i, ...others] : [...others, i]);
      });
      this.grid.append(this.node("context", context, 1, 1));
      const below = (row, level, from) =>
        (after.get(row) || []).map((i, nth) => ({ i, nth, level, from })).reverse();
      const waiting = below(0, 2, 1);
      for (let line = 1; waiting.length;) {
        const { i, nth, level, from } = waiting.pop();
        if (nth) line += 1;
        const { status } = step.tokens[i];
        const link = el("span", `st-link ${status}${nth ? "" : " first"}`);
        link.setAttribute("aria-hidden", "true");
        link.style.gridArea = `${from} / ${2 * level - 2} / ${line + 1}`;
        const node = this.node(i === last ? `says ${status}` : status, Stairs.cell(step.tokens[i]), line, level);
        node.dataset.row = i;
        node.tabIndex = i === last ? 0 : -1;
        node.setAttribute("aria-label", this.words(i));
        this.grid.append(link, node);
        if (i !== last) waiting.push(...below(i + 1, level + 1, line));
      }
    }

    node(name, text, line, level) {
      const node = el("span", `st-c ${name}`, text);
      node.setAttribute("role", "treeitem");
      node.setAttribute("aria-level", level);
      node.style.gridArea = `${line} / ${2 * level - 1}`;
      return node;
    }

    key(event) {
      const move = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      const ends = [...this.grid.querySelectorAll("[tabindex]")];
      const next = ends[ends.indexOf(document.activeElement) + move];
      next?.focus({ preventScroll: this.grid.classList.contains("tree") });
      if (this.grid.classList.contains("tree")) next?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    // What was compared in row i of a chain or at token i of a tree, and where that token was copied from.
    words(i) {
      const { step } = this;
      if (step.parents) return `${Stairs.node(step, i)} ${Stairs.copied([step.tokens[i]])}`.trim();
      return `${Stairs.row(step, i)} ${Stairs.copied(step.tokens.slice(i, i + 1))}`.trim();
    }

    tell(event) {
      const at = event.target.closest("[data-row]");
      if (!at) return;
      const i = Number(at.dataset.row);
      set(this.detail, this.words(i));
      this.mark(this.step.tokens.slice(i, i + 1));
    }

    // Nothing is pointed at: says what the whole step was copied from.
    rest() {
      const what = this.step?.parents ? "guess" : "row";
      const point = `Point at a ${what}, or reach it with ↑ ↓, to read what was compared.`;
      const copied = this.step ? `${Stairs.copied(this.step.tokens)} ` : "";
      set(this.detail, (copied + point).trim());
      this.mark(this.step ? this.step.tokens : []);
    }
  }

  // The stairs of the step; beside them the same step in all four backends.
  class StepView {
    constructor(stage) {
      this.stairs = new Staircase((tokens) => stage.mark(tokens));
      this.source = new Source();
      this.backends = new Stairs.Backends();
      const { note, grid, detail } = this.stairs;
      this.node = el("div", "st-two", el("div", "st-now", note, this.source.node, grid, detail), this.backends.node);
    }

    show({ lead, step, tall, passes }) {
      this.source.show(lead, step);
      this.stairs.show(lead, step, tall);
      this.backends.show(lead, step, tall, passes);
    }
  }

  Object.assign(Stairs, { StepView });
})((globalThis.Stairs ??= {}));
