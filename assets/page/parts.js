// The drawn parts of the stage. Each is made once and told what to show; text goes in by
// textContent only, since tokens and prompts may hold anything. Here: what all are made of, and
// every step as a strip.
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

  // The statuses of a step's tokens; the many wrong ones of a tree are one.
  function stack({ tokens, parents }) {
    const all = tokens.map((t) => t.status);
    if (!parents) return all;
    const kept = tokens.filter((t) => Stairs.committed(t) || t.status === "dropped").map((t) => t.status);
    return kept.length < all.length ? [...kept, "rejected"] : kept;
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
        const bar = el("span", "st-s", ...stack(lane.steps[i]).map((status) => el("i", status)));
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

  // All lanes side by side. A lane that guesses can be chosen: its stairs are drawn then.
  class Table {
    constructor(choose) {
      this.head = el("tr", "");
      this.body = el("tbody", "");
      const caption = el("caption", "st-spoken", "All lanes; choose the one whose stairs are drawn");
      this.table = el("table", "", caption, el("thead", "", this.head), this.body);
      this.node = el("div", "st-table", this.table);
      this.body.addEventListener("change", (e) => choose(Number(e.target.value)));
    }

    // lanes: as in Fold; made anew only when the lanes are others, so that a choice keeps its focus.
    show({ columns, rows }, lanes, lead) {
      this.node.hidden = lanes.filter(Stairs.guesses).length < 2;
      if (this.node.hidden) return;
      if (this.runs?.length !== lanes.length || lanes.some((lane, i) => lane.run !== this.runs[i])) {
        this.runs = lanes.map((lane) => lane.run);
        this.head.replaceChildren(...columns.map((name) => scoped(el("th", "", name), "col")));
        this.body.replaceChildren(...lanes.map((lane, i) => this.row(lane, i, columns.length)));
      }
      rows.forEach((cells, i) => {
        const [name, ...rest] = this.body.rows[i].cells;
        rest.forEach((cell, j) => set(cell, cells[j + 1]));
        this.body.rows[i].classList.toggle("on", i === lead);
        const choice = name.querySelector("input");
        if (choice) choice.checked = i === lead;
      });
    }

    row(lane, i, columns) {
      const name = Stairs.readable(lane.run.name);
      const choice = el("input", "");
      Object.assign(choice, { type: "radio", name: "st-lead", value: i });
      const label = Stairs.guesses(lane) ? el("label", "", choice, name) : name;
      const cells = Array.from({ length: columns - 1 }, () => el("td", ""));
      return el("tr", "", scoped(el("th", "", label), "row"), ...cells);
    }
  }

  function scoped(cell, scope) {
    cell.scope = scope;
    return cell;
  }

  Object.assign(Stairs, { el, set, Strip, Table });
})((globalThis.Stairs ??= {}));
