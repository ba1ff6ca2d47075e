// The tour: six stops over the run that is on the stage, whatever it is. A small card beside what it
// tells of, rings around that; neither moves anything on the page.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const GAP = 14; // between a ring and the card
  const DOCKED = 700; // a window less wide has the card at its foot

  // The smallest box around nodes, cut to what their scrolling box shows; null if none is seen.
  function around(nodes) {
    const boxes = nodes.map((node) => {
      const r = node.getBoundingClientRect();
      const frame = node.parentElement.closest(".st-stairs, .st-view")?.getBoundingClientRect();
      const cut = frame || r;
      const over = node.closest(".st-stairs.wide")?.querySelector(".context"); // it stays as the others scroll
      const start = over && over !== node ? over.getBoundingClientRect().right : cut.left;
      return { left: Math.max(r.left, cut.left, node.closest(".st-c") ? start : 0), top: Math.max(r.top, cut.top),
        right: Math.min(r.right, cut.right), bottom: Math.min(r.bottom, cut.bottom) };
    }).filter((b) => b.right > b.left && b.bottom > b.top);
    if (!boxes.length) return null;
    return { left: Math.min(...boxes.map((b) => b.left)), top: Math.min(...boxes.map((b) => b.top)),
      right: Math.max(...boxes.map((b) => b.right)), bottom: Math.max(...boxes.map((b) => b.bottom)) };
  }

  class Tour {
    constructor() {
      this.rings = el("div", "st-rings");
      this.rings.setAttribute("aria-hidden", "true");
      this.where = el("span", "st-tour-count");
      this.title = el("h2", "");
      this.title.id = "tour-title";
      this.text = el("p", "");
      this.text.id = "tour-text";
      this.text.setAttribute("aria-live", "polite");
      this.skip = Stairs.button("Skip", () => this.end(), "Esc");
      this.back = Stairs.button("Back", () => this.to(this.at - 1), "←");
      this.next = Stairs.button("Next", () => this.to(this.at + 1), "→");
      this.next.classList.add("st-primary");
      this.node = el("div", "st-card st-tour", el("header", "", this.title, this.where), this.text,
        el("div", "st-tour-moves", this.skip, this.back, this.next));
      const given = { role: "dialog", "aria-modal": "false", "aria-labelledby": "tour-title", "aria-describedby": "tour-text" };
      for (const [name, value] of Object.entries(given)) this.node.setAttribute(name, value);
      this.node.id = "tour-card";
      this.node.tabIndex = -1;
      this.node.addEventListener("keydown", (e) => this.key(e));
      this.leave = (e) => e.key === "Escape" && this.end();
    }

    get open() {
      return this.node.isConnected;
    }

    start(stage) {
      if (this.open || !stage) return;
      Stairs.kept.set("tour", "seen");
      this.stage = stage;
      this.fold = stage.fold;
      this.before = document.activeElement;
      document.body.append(this.rings, this.node);
      document.addEventListener("keydown", this.leave);
      this.missing = Stairs.missing(stage);
      this.skip.hidden = this.back.hidden = Boolean(this.missing);
      this.to(0);
      this.node.focus({ preventScroll: true });
      this.follow();
    }

    // Back to where the keyboard was; the step stays, to be looked at.
    end() {
      if (!this.open) return;
      cancelAnimationFrame(this.frame);
      document.removeEventListener("keydown", this.leave);
      const held = this.node.contains(document.activeElement);
      this.rings.remove();
      this.node.remove();
      if (held) (this.before?.isConnected && this.before !== document.body ? this.before : this.stage.root).focus();
    }

    to(i) {
      if (this.missing) return this.at === 0 && i ? this.end() : this.nothing();
      if (i >= Stairs.STOPS.length) return this.end();
      this.at = Math.max(0, i);
      const stop = Stairs.STOPS[this.at];
      const { stage } = this;
      stage.cursorBar.halt();
      const step = stop.find(stage.lead);
      if (!stage.tabs.open(stop.view)) stage.tabs.open("stairs");
      stage.go(step.index);
      this.step = step;
      set(this.where, `${this.at + 1} of ${Stairs.STOPS.length}`);
      set(this.title, stop.title);
      this.text.replaceChildren(...stop.say(step, stage.lead, this.told()));
      this.skip.hidden = this.at === Stairs.STOPS.length - 1;
      this.back.setAttribute("aria-disabled", this.at === 0);
      set(this.next.firstChild, this.skip.hidden ? "Done" : "Next");
      this.seek();
      this.draw();
    }

    nothing() {
      this.at = 0;
      set(this.where, "");
      set(this.title, "The tour needs a run");
      set(this.text, this.missing);
      set(this.next.firstChild, "Done");
      this.draw();
    }

    // What Python worded of the whole run, for the lane that leads.
    told() {
      const { value, fold, lead, view } = this.stage;
      const { numbers, verdict } = value.facts[Math.max(0, fold.lanes.indexOf(lead))];
      const [{ value: times, label }] = numbers;
      return { verdict: verdict.text, speedup: /\d/.test(times) ? `${times} ${label}` : "", alone: view.alone };
    }

    // The nodes of each ring; looked up anew, since the views make theirs anew.
    targets() {
      if (this.missing) return [];
      const all = Stairs.STOPS[this.at].rings(this.step).map((s) => [...document.querySelectorAll(s)]);
      return all.filter((nodes) => nodes.length);
    }

    key(event) {
      const to = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!to) return;
      event.preventDefault();
      if (this.at + to < Stairs.STOPS.length) this.to(this.at + to);
    }

    // Scrolls what is told of to where it can be seen: under the cursor that sticks to the top, and
    // above the card where that is docked.
    seek() {
      const nodes = this.targets().flat();
      for (const node of nodes) {
        const box = node.closest(".st-stairs");
        if (box && box !== node) box.scrollLeft = Math.max(0, node.offsetLeft + node.offsetWidth - box.clientWidth + 8);
      }
      const box = this.targets().map(around).find(Boolean);
      if (!box) return;
      const bar = this.stage.cursorBar.node;
      const sticks = !nodes.some((node) => bar.contains(node)) && bar.getBoundingClientRect().bottom <= box.top;
      const card = this.node.getBoundingClientRect();
      const below = this.docked || box.right + card.width + 2 * GAP > innerWidth; // where the card will be
      const out = parseFloat(getComputedStyle(bar).top) || 0; // so much of it is over the window's edge
      const top = (sticks ? bar.getBoundingClientRect().height + out * (bar.currentCSSZoom || 1) : 0) + GAP;
      const bottom = innerHeight - GAP - (below ? card.height + GAP : 0);
      if (box.top >= top && box.bottom <= bottom) return;
      const tall = box.bottom - box.top > bottom - top;
      const by = tall ? box.top - top : (box.top + box.bottom) / 2 - (top + bottom) / 2;
      scrollBy({ top: by, behavior: Stairs.calm() ? "auto" : "smooth" });
    }

    get docked() {
      return innerWidth < DOCKED * (this.node.currentCSSZoom || 1);
    }

    // The page may move under the tour at any time, a new run may begin.
    follow() {
      this.frame = requestAnimationFrame(() => {
        if (this.stage.fold !== this.fold) return this.end();
        this.draw();
        this.follow();
      });
    }

    draw() {
      const boxes = this.targets().map(around).filter(Boolean);
      const now = JSON.stringify([boxes, innerWidth, innerHeight, this.at, this.node.offsetHeight]);
      if (this.drawn === now) return;
      this.drawn = now;
      while (this.rings.children.length > boxes.length) this.rings.lastChild.remove();
      boxes.forEach((box, i) => this.ring(this.rings.children[i] || this.rings.appendChild(el("i", "")), box));
      this.place(boxes.at(0));
    }

    ring(node, { left, top, right, bottom }) {
      const zoom = node.currentCSSZoom || 1;
      Stairs.place(node, left - 5, top - 5);
      node.style.width = `${(right - left + 10) / zoom}px`;
      node.style.height = `${(bottom - top + 10) / zoom}px`;
    }

    // Beside, under or over the first ring, where there is room; else in the corner.
    place(box) {
      this.node.classList.toggle("docked", this.docked);
      if (this.docked) {
        this.node.style.left = this.node.style.top = "";
        return;
      }
      const { width, height } = this.node.getBoundingClientRect();
      const end = { left: innerWidth - width - GAP, top: innerHeight - height - GAP };
      const clamp = (v, most) => Math.max(GAP, Math.min(v, most));
      const spots = !box ? [] : [
        [box.right + GAP, clamp(box.top, end.top)],
        [clamp(box.left, end.left), box.bottom + GAP],
        [clamp(box.left, end.left), box.top - height - GAP],
        [box.left - width - GAP, clamp(box.top, end.top)],
      ];
      const fits = ([left, top]) => left >= GAP && left <= end.left && top >= GAP && top <= end.top;
      Stairs.place(this.node, ...(spots.find(fits) || [end.left, end.top]));
    }
  }

  let tour = null;

  function start() {
    (tour ??= new Tour()).start(Stairs.stage);
  }

  // The button in the head, and for who has not been here before, one line that asks.
  function invitation() {
    const button = Stairs.button("Tour", start, "", "Tour: what is seen here, in six steps");
    button.id = "tour";
    if (Stairs.kept.get("tour")) return [button, null];
    const begin = Stairs.button("Take the tour", () => (note.remove(), button.focus(), start()));
    const no = Stairs.button("No, thanks", () => {
      Stairs.kept.set("tour", "seen");
      note.remove();
      button.focus();
    });
    const note = el("p", "st-invite", "First time here? Six steps show what happens. ", begin, no);
    return [button, note];
  }

  Object.assign(Stairs, { invitation });
})((globalThis.Stairs ??= {}));
