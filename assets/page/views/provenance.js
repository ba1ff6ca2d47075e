// Provenance: where copied guesses come from, as bands from the source to the copy.
(function (Stairs) {
  "use strict";

  const { el, shape, set } = Stairs;
  const HIGH = 150; // height of the bands, in px
  const COPIERS = "The guessers that copy: from the text, the longest match, from references, or else the draft model.";
  const HINT = "Point at a band, or reach it with ↑ ↓, to read where it was copied from.";

  // The copied runs of a step: guesses that follow one another here and in the source. base: how many
  // tokens stand before the step. [{document, from, place, tokens, kept, step}]
  function copies(step, base) {
    const runs = [];
    step.drafted.forEach((token, i) => {
      const row = step.rows[i];
      const { origin } = token;
      if (!origin) return;
      const run = runs.find((r) => r.row === row && r.document === origin.document &&
        r.from + r.tokens.length === origin.at);
      if (run) Object.assign(run, { row: i + 1, tokens: [...run.tokens, token] });
      else runs.push({ ...origin, from: origin.at, place: base + step.depths[row], row: i + 1, tokens: [token], step });
    });
    for (const run of runs) run.kept = run.tokens.filter((t) => t.status === "accepted").length;
    return runs;
  }

  const copied = (lane) => lane.steps.some((step) => step.tokens.some((t) => t.origin));

  // An SVG path, x in columns, y in px: an arch from columns a–b to c–d; if a is null, from c–d straight up.
  function band(a, b, c, d) {
    if (a === null) return `M ${c} ${HIGH} V 0 H ${d} V ${HIGH} Z`;
    const top = (width) => HIGH - Math.min(HIGH - 4, 24 * Math.log2(1 + Math.max(0, width))) / 0.75;
    const [outer, inner] = [top(d - a), top(c - b)];
    return `M ${a} ${HIGH} C ${a} ${outer} ${d} ${outer} ${d} ${HIGH} H ${c} C ${c} ${inner} ${b} ${inner} ${b} ${HIGH} Z`;
  }

  class Provenance {
    constructor(stage) {
      this.stage = stage;
      this.documents = el("div", "st-documents");
      this.svg = shape("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
      this.words = el("div", "st-columns");
      this.ribbon = new Stairs.Ribbon("The text, and where its copies come from: ↑ and ↓ go through them",
        this.svg, this.words);
      this.note = el("p", "st-note st-explain");
      this.note.setAttribute("role", "status");
      this.body = el("div", "", el("div", "st-tools", el("p", "st-note", HINT), this.ribbon.whole),
        this.documents, this.ribbon.node, this.note);
      this.none = el("p", "st-note");
      this.other = Stairs.button("", () => stage.choose(stage.fold.lanes.indexOf(this.copier)));
      this.node = el("div", "st-provenance", this.none, this.other, this.body);
      const { line } = this.ribbon;
      line.addEventListener("mousemove", (e) => this.point(this.find(e.target)));
      line.addEventListener("mouseleave", () => this.point(null));
      line.addEventListener("focusout", () => this.point(null));
      line.addEventListener("click", (e) => stage.go(this.find(e.target)?.step.index ?? this.index));
      line.addEventListener("keydown", (e) => this.key(e));
    }

    show({ lead, lanes, index }) {
      if (this.lead !== lead) this.restart(lead);
      for (let i = this.cells.length; i < lead.steps.length; i++) this.append(lead.steps[i]);
      this.body.hidden = !this.runs.length;
      this.none.hidden = !this.body.hidden;
      this.copier = this.body.hidden ? lanes.map((l) => l.lane).find(copied) : null;
      this.other.hidden = !this.copier;
      if (this.body.hidden) return this.refuse();
      this.ribbon.widen(this.count);
      this.svg.setAttribute("viewBox", `0 0 ${this.count} ${HIGH}`);
      this.svg.style.width = `calc(${this.count} * var(--col))`;
      if (this.index !== index) this.mark(index);
      this.settle();
    }

    // Says that nothing was copied, which guessers copy, and offers a lane that did.
    refuse() {
      const name = Stairs.readable(this.lead.run.name);
      const yet = this.lead.stop ? "" : " so far";
      set(this.none, `“${name}” copied none of its guesses${yet}. ${COPIERS}`);
      if (this.copier) set(this.other.firstChild, `Let “${Stairs.readable(this.copier.run.name)}” lead`);
    }

    restart(lead) {
      this.lead = lead;
      this.runs = [];
      this.cells = []; // for every step, its columns
      this.places = Stairs.prompted(lead.run).map((token) => Stairs.column(token, lead.run, "st-col st-prompt"));
      this.count = this.places.length;
      this.boxes = new Map(); // document -> its box
      this.index = -1;
      this.pointed = null;
      this.marked = [];
      set(this.note, "");
      this.svg.replaceChildren();
      this.documents.replaceChildren();
      this.words.replaceChildren(...this.places);
    }

    append(step) {
      const base = this.places.length;
      const cells = step.tokens.filter(Stairs.committed).map((token) => {
        const cell = Stairs.column(token, this.lead.run, `st-col ${token.status} later`);
        cell.dataset.place = this.places.push(cell) - 1;
        return cell;
      });
      this.words.append(...cells);
      this.cells.push(cells);
      this.count = Math.max(this.count, this.places.length);
      for (const run of copies(step, base)) this.add(run);
    }

    // Draws a run: the part that was kept, and the rest.
    add(run) {
      const { document, from, place, kept, tokens } = run;
      const here = document === "text";
      run.bands = [[0, kept, "held"], [kept, tokens.length, "vain"]].filter(([a, b]) => b > a).map(([a, b, kind]) => {
        const d = band(here ? from + a : null, here ? from + b : null, place + a, place + b);
        return shape("path", { d, class: kind, "data-run": this.runs.length });
      });
      this.svg.append(...run.bands);
      this.count = Math.max(this.count, place + tokens.length);
      this.runs.push(run);
      if (here || this.boxes.has(document)) return;
      const box = el("span", "st-document");
      this.boxes.set(document, box);
      this.documents.append(box);
    }

    // Makes the bands of step `index` strong, and what comes after it faint.
    mark(index) {
      const [from, to] = [Math.min(this.index, index), Math.max(this.index, index)];
      for (let i = Math.max(0, from); i <= to; i++) {
        for (const cell of this.cells[i]) cell.classList.toggle("later", i > index);
      }
      this.index = index;
      this.here = this.runs.filter((run) => run.step.index === index);
      for (const run of this.runs) {
        const kind = run.step.index === index ? "on" : run.step.index > index ? "later" : "";
        for (const path of run.bands) path.classList.remove("on", "later");
        if (kind) for (const path of run.bands) path.classList.add(kind);
      }
      this.pointed = null;
      const first = Number(this.cells[index][0]?.dataset.place || 0);
      this.ribbon.follow(first, first + Math.max(1, this.cells[index].length));
    }

    // Updates sentence, boxes and marks to the run that is pointed at, else to those of the step.
    settle() {
      const about = this.pointed ? [this.pointed] : this.here;
      const words = about.map((run) => this.tell(run)).join(" ") || `Step ${this.index + 1} copied nothing.`;
      if (this.note.textContent === words) return;
      set(this.note, words);
      for (const node of this.marked) node.classList.remove("from", "to", "pointed");
      this.marked = [];
      for (const run of about) this.light(run);
      for (const [name, box] of this.boxes) {
        const found = about.filter((run) => run.document === name).flatMap((run) => run.tokens);
        box.classList.toggle("on", found.length > 0);
        const text = Stairs.copied(found).replace(/^Copied from |\.$/g, "");
        set(box, text || `“${Stairs.readable(name.slice(0, 60))}”`);
      }
    }

    light(run) {
      const add = (nodes, name) => {
        for (const node of nodes.filter(Boolean)) {
          node.classList.add(name);
          this.marked.push(node);
        }
      };
      const { length } = run.tokens;
      if (run.document === "text") add(this.places.slice(run.from, run.from + length), "from");
      add(this.places.slice(run.place, run.place + run.kept), "to");
      if (run === this.pointed) add(run.bands, "pointed");
    }

    tell({ step, tokens, kept }) {
      const text = Stairs.visible(Stairs.shown(tokens).slice(0, 80));
      const where = Stairs.copied(tokens).replace(/^Copied |\.$/g, "");
      return `Step ${step.index + 1} copied “${text}” ${where}: ${kept || "none"} of ${tokens.length} held.`;
    }

    find(target) {
      if (target.dataset?.run) return this.runs[target.dataset.run];
      const place = Number(target.dataset?.place ?? NaN);
      return this.runs.find((run) => run.place <= place && place < run.place + run.kept) || null;
    }

    point(run) {
      if (run === this.pointed || !this.here) return;
      this.pointed = run;
      this.settle();
    }

    // ↑ ↓ go from run to run, starting at the step under the cursor; Enter moves the cursor to its step.
    key(event) {
      if (event.key === "Enter" && this.pointed) this.stage.go(this.pointed.step.index);
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by || !this.runs.length) return;
      event.preventDefault();
      const near = this.runs.findLastIndex((run) => run.step.index <= this.index);
      const at = this.pointed ? this.runs.indexOf(this.pointed) + by : Math.max(0, near);
      const run = this.runs[Math.max(0, Math.min(at, this.runs.length - 1))];
      this.point(run);
      this.ribbon.follow(run.place, run.place + run.tokens.length);
    }
  }

  Object.assign(Stairs, { Provenance });
})((globalThis.Stairs ??= {}));
