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

  // A node of an SVG picture.
  function shape(tag, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  }

  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // A button; `keys` are shown as its tooltip, `name` is said where its text is a mark.
  function button(text, act, keys = "", name = "") {
    const node = el("button", "st-button", el("span", "", text));
    node.type = "button";
    if (name) node.setAttribute("aria-label", name);
    node.title = [name, keys && `(${keys})`].filter(Boolean).join(" ");
    node.addEventListener("click", act);
    return node;
  }

  // A labelled checkbox. act: told whether it is checked.
  function toggle(text, checked, act, title = "") {
    const box = el("input", "");
    Object.assign(box, { type: "checkbox", checked });
    box.addEventListener("change", () => act(box.checked));
    const label = el("label", "st-toggle", box, text);
    label.title = title;
    return label;
  }

  // For `js_on_load` of a gr.HTML component: draws every value that it is given.
  function tie(props, watch, draw) {
    draw(props.value);
    watch("value", () => draw(props.value));
  }

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Numbers in tiles: [{value, label, meaning, tone}].
  function tiles(node, numbers) {
    while (node.children.length > numbers.length) node.lastChild.remove();
    numbers.forEach((n, i) => {
      const tile = node.children[i] || node.appendChild(el("div", "st-tile", el("b", ""), el("span", "")));
      set(tile.children[0], n.value);
      Stairs.caption(tile.children[1], n.label);
      tile.title = n.meaning;
      tile.className = `st-tile ${n.tone}`;
    });
  }

  // One of several views at a time, each under a tab. Arrows move between tabs, as in any tab list.
  class Tabs {
    constructor(views, stage, chosen) {
      this.chosen = chosen;
      this.views = views;
      this.made = views.map(() => null);
      this.stage = stage;
      this.tabs = views.map(({ id, label }, i) => {
        const tab = el("button", "st-tab", label);
        Object.assign(tab, { type: "button", id: `tab-${id}` });
        tab.setAttribute("role", "tab");
        tab.setAttribute("aria-controls", `view-${id}`);
        tab.addEventListener("click", () => this.choose(i));
        return tab;
      });
      this.list = el("div", "st-tabs", ...this.tabs);
      this.list.setAttribute("role", "tablist");
      this.list.setAttribute("aria-label", "Views of the step");
      this.list.addEventListener("keydown", (e) => this.key(e));
      this.panels = views.map(({ id }) => {
        const panel = el("div", "st-view");
        panel.id = `view-${id}`;
        panel.setAttribute("role", "tabpanel");
        panel.setAttribute("aria-labelledby", `tab-${id}`);
        return panel;
      });
      this.node = el("section", "st-card st-views", this.list, ...this.panels);
      this.choose(0);
    }

    get id() {
      return this.views[this.at].id;
    }

    choose(i) {
      this.at = i;
      this.tabs.forEach((tab, j) => {
        tab.setAttribute("aria-selected", j === i);
        tab.tabIndex = j === i ? 0 : -1;
        this.panels[j].hidden = j !== i;
      });
      if (!this.made[i]) {
        this.made[i] = this.views[i].make(this.stage);
        this.panels[i].append(this.made[i].node);
      }
      this.chosen();
    }

    // By id; true if there is such a view.
    open(id) {
      const i = this.views.findIndex((view) => view.id === id);
      if (i >= 0) this.choose(i);
      return i >= 0;
    }

    show(view) {
      this.made[this.at].show(view);
    }

    key(event) {
      const last = this.tabs.length - 1;
      const to = { ArrowLeft: this.at ? this.at - 1 : last, ArrowRight: this.at < last ? this.at + 1 : 0,
        Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.choose(to);
      this.tabs[to].focus();
    }
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

    show(lane, index) {
      if (this.run !== lane.run) {
        this.run = lane.run;
        this.node.textContent = "";
        this.bars = [];
      }
      for (let i = this.bars.length; i < lane.steps.length; i++) {
        const bar = el("span", "st-s", ...stack(lane.steps[i]).map((status) => el("i", status)));
        bar.title = `Step ${i + 1}${lane.run.untold ? ", in no known order" : ""}: ${Stairs.headline(lane.steps[i])}`;
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

  Object.assign(Stairs, { el, shape, set, button, toggle, tie, calm, tiles, views: [], Tabs, Strip, Table });
})((globalThis.Stairs ??= {}));
