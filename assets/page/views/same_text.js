// The same text, a row a lane: a block is one step, as wide as the tokens it added.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const NOTE = "A block is one step, one pass of the target: the wider its blocks, the fewer passes a lane needed.";
  const KEYS = [
    ["free", "free", "a guess that was kept"],
    ["own", "own", "the target's own token, one a step"],
    ["own differs", "≠", "not the token that stands above"],
  ];

  class Row {
    constructor(lane) {
      this.lane = lane;
      this.steps = []; // for every step, its block
      this.cells = []; // for every token of the text: {cell, token, label}
      this.free = [];
      this.shown = 0;
      this.count = el("span", "");
      this.head = el("div", "st-name", el("b", "", Stairs.readable(lane.run.name)), this.count);
      this.node = el("div", "st-aligned", this.head);
    }

    // Adds the block of a step; added(place, token) is called for each token that it adds to the text.
    append(step, added) {
      const block = el("span", "st-block later");
      block.dataset.step = step.index;
      step.tokens.forEach((token, i) => {
        if (!Stairs.committed(token)) return;
        const label = token.status === "accepted" ? "free" : "own";
        const cell = el("span", `st-cell ${label}`, label);
        cell.dataset.token = i;
        block.append(cell);
        if (Stairs.lossy(this.lane)) Stairs.spell(cell, token, this.lane.run); // its own text, not compared
        added(this.cells.push({ cell, token, label }) - 1, token);
      });
      block.style.setProperty("--n", block.children.length);
      this.free.push((this.free.at(-1) || 0) + block.querySelectorAll(".free").length);
      this.steps.push(block);
      this.node.append(block);
    }

    compare(place, id) {
      const { cell, token, label } = this.cells[place] || {};
      if (!cell || Stairs.lossy(this.lane)) return;
      const differs = token.id !== id;
      cell.classList.toggle("differs", differs);
      if (differs) Stairs.spell(cell, token, this.lane.run);
      else set(cell, label);
    }

    // Fades the steps from `shown` on, which come later; marks step `current`.
    shade(shown, current) {
      const [from, to] = [Math.min(shown, this.shown), Math.max(shown, this.shown)];
      for (let i = from; i < to; i++) this.steps[i].classList.toggle("later", i >= shown);
      this.shown = shown;
      if (this.now !== this.steps[current]) {
        this.now?.classList.remove("now");
        this.now = this.steps[current];
        this.now?.classList.add("now");
      }
      const steps = `${shown} step${shown === 1 ? "" : "s"}`;
      if (Stairs.lossy(this.lane)) set(this.count, `${steps} · another text, by design (lossy)`);
      else set(this.count, Stairs.guesses(this.lane) ? `${steps} · ${this.free[shown - 1] || 0} free` : steps);
    }
  }

  class SameText {
    constructor(stage) {
      this.stage = stage;
      this.text = el("div", "st-aligned st-heading");
      this.rows = [];
      this.ribbon = new Stairs.Ribbon("The text, and under it the steps of every lane");
      const keys = KEYS.map(([kind, label, words]) =>
        el("span", "", el("i", `st-cell ${kind}`, label), words));
      this.node = el("div", "st-same", el("div", "st-tools", el("p", "st-note", NOTE), this.ribbon.whole),
        this.ribbon.node, el("div", "st-keys", ...keys));
      const { line } = this.ribbon;
      line.addEventListener("click", (e) => this.pick(e.target));
      line.addEventListener("mousemove", (e) => this.point(e.target));
      line.addEventListener("mouseleave", () => stage.race.card.hide());
    }

    show(view) {
      const { lanes, lead, index } = view;
      if (lanes.length !== this.rows.length || lanes.some((l, i) => l.lane !== this.rows[i].lane)) this.restart(view);
      lanes.forEach(({ lane, shown }, i) => {
        const row = this.rows[i];
        while (row.steps.length < lane.steps.length) {
          row.append(lane.steps[row.steps.length], (place, token) => this.stand(place, token, i));
        }
        row.node.classList.toggle("leads", lane === lead);
        row.shade(shown, lane === lead ? index : -1);
      });
      this.ribbon.widen(Math.max(this.heading.length, ...this.rows.map((row) => row.cells.length)));
      if (index >= 0) this.ribbon.follow(lead.counts[index - 1] || 0, lead.counts[index]);
    }

    restart({ lanes, alone }) {
      this.heading = []; // for every token of the heading: {id, order}
      this.first = Math.max(0, lanes.findIndex(({ lane }) => lane === alone));
      this.rows = lanes.map(({ lane }) => new Row(lane));
      this.text.replaceChildren(el("div", "st-name", el("b", "", "The text")));
      this.ribbon.line.replaceChildren(this.text, ...this.rows.map((row) => row.node));
    }

    // The heading shows what the target alone wrote; beyond that, what the first other lane wrote.
    stand(place, token, i) {
      if (Stairs.lossy(this.rows[i].lane)) return; // its text is not the one that all share
      const order = i === this.first ? -1 : i;
      const known = this.heading[place];
      if (known && known.order <= order) return this.rows[i].compare(place, known.id);
      const { run } = this.rows[i].lane;
      this.heading[place] = { id: token.id, order };
      if (known) Stairs.spell(this.text.children[place + 1], token, run);
      else this.text.append(Stairs.column(token, run));
      for (const row of this.rows) row.compare(place, token.id);
    }

    find(target) {
      const cell = target.closest(".st-cell");
      const i = cell ? this.rows.findIndex((row) => row.node.contains(cell)) : -1;
      const step = this.rows[i]?.lane.steps[cell.parentNode.dataset.step];
      return step && { i, cell, step, lane: this.rows[i].lane, token: step.tokens[cell.dataset.token] };
    }

    pick(target) {
      const { lane, step } = this.find(target) || {};
      if (step) this.stage.pick({ lane, step });
    }

    point(target) {
      const { cell, lane, step, token } = this.find(target) || {};
      if (token) this.stage.race.card.show(cell, lane, step, token);
      else this.stage.race.card.hide();
    }
  }

  Object.assign(Stairs, { SameText });
})((globalThis.Stairs ??= {}));
