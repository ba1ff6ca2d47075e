// The table of all lanes, side by side.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;

  // A row a lane. A lane that guesses can be chosen: it leads then, and its stairs are drawn.
  class LaneTable {
    constructor(choose) {
      this.head = el("tr", "");
      this.body = el("tbody", "");
      const caption = el("caption", "st-spoken", "All lanes; choose the one whose stairs are drawn");
      this.table = el("table", "", caption, el("thead", "", this.head), this.body);
      this.node = el("div", "st-table", this.table);
      this.body.addEventListener("change", (e) => choose(Number(e.target.value)));
    }

    // facts: of every lane, its tiles among them; lanes: as in Fold. Rows are made anew only for another run, so that a radio button keeps its focus.
    show({ columns, rows }, facts, lanes, lead) {
      this.node.hidden = lanes.filter(Stairs.guesses).length < 2;
      if (this.node.hidden) return;
      if (this.runs?.length !== lanes.length || lanes.some((lane, i) => lane.run !== this.runs[i])) {
        this.runs = lanes.map((lane) => lane.run);
        this.head.replaceChildren(...columns.map((name) => {
          const cell = scoped(el("th", ""), "col");
          Stairs.caption(cell, name);
          return cell;
        }));
        this.body.replaceChildren(...lanes.map((lane, i) => this.row(lane, i, columns.length)));
      }
      rows.forEach((cells, i) => {
        const [name, ...rest] = this.body.rows[i].cells;
        rest.forEach((cell, j) => set(cell, cells[j + 1]));
        this.body.rows[i].classList.toggle("on", i === lead);
        rest[0]?.classList.toggle("unsure", /unsure/.test(facts[i].numbers[0].tone));
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

  Object.assign(Stairs, { LaneTable });
})((globalThis.Stairs ??= {}));
