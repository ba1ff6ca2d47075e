// Tabs: one of several panels is shown at a time.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;

  // views: [{id, label, make(stage)}]; a view is made when its tab is first chosen. chosen: called
  // after every choice. Arrow keys move between tabs, as in any tab list.
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

    // Chooses a view by its id; false if there is none.
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

  Object.assign(Stairs, { Tabs });
})((globalThis.Stairs ??= {}));
