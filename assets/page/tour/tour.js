// The tour: six stops over the run that is shown. Rings mark what a stop is about, a small card beside
// it explains it; neither moves anything on the page.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const GAP = 14; // between a ring and the card
  const DOCKED = 700; // in a narrower window the card is fixed to the bottom

  // The smallest box around what is seen of nodes that may be scrolled away; null if none is seen.
  function around(nodes) {
    const boxes = nodes.map((node) => {
      const r = node.getBoundingClientRect();
      const frame = node.parentElement.closest(".st-stairs, .st-view")?.getBoundingClientRect();
      const cut = frame || r;
      const over = node.closest(".st-stairs.wide")?.querySelector(".context"); // stays in place while the others scroll
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
      this.before = document.activeElement;
      document.body.append(this.rings, this.node);
      document.addEventListener("keydown", this.leave);
      this.over(0);
      this.node.focus({ preventScroll: true });
      this.follow();
    }

    // Shows stop i over the run that is on the stage.
    over(i) {
      this.fold = this.stage.fold;
      this.missing = Stairs.missing(this.stage);
      this.skip.hidden = this.back.hidden = Boolean(this.missing);
      if (this.missing) this.nothing();
      else this.to(i);
    }

    // Gives the focus back to where it was; the cursor stays at its step.
    end() {
      if (!this.open) return;
      cancelAnimationFrame(this.frame);
      document.removeEventListener("keydown", this.leave);
      const focused = this.node.contains(document.activeElement);
      this.rings.remove();
      this.node.remove();
      if (focused) (this.before?.isConnected && this.before !== document.body ? this.before : this.stage.root).focus();
    }

    to(i) {
      if (this.missing) return i > 0 && this.end();
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
      set(this.title, typeof stop.title === "string" ? stop.title : stop.title(stage.lead));
      this.text.replaceChildren(...stop.say(step, stage.lead, this.summary()));
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

    // What Python says about the whole run for the lane that leads.
    summary() {
      const { value, fold, lead, view } = this.stage;
      const { numbers, verdict } = value.facts[Math.max(0, fold.lanes.indexOf(lead))];
      const [{ value: times, label }] = numbers;
      return { verdict: verdict.text, speedup: /\d/.test(times) ? `${times} ${label}` : "", alone: view.alone };
    }

    // The nodes of each ring; looked up every time, since views replace theirs.
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

    // Scrolls until the rings are seen, below the cursor's card, which sticks to the top of the window,
    // and above the tour's card.
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
      const out = parseFloat(getComputedStyle(bar).top) || 0; // how much of it is above the window
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

    // Follows the page, which may scroll or change at any time. A run that the visitor starts
    // or opens ends the tour; the page's own, which may arrive after the first click, is toured in its place.
    follow() {
      this.frame = requestAnimationFrame(() => {
        if (this.stage.fold !== this.fold) {
          if (["live", "file"].includes(this.stage.value.source.kind)) return this.end();
          this.over(this.at);
        }
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

    // Puts the card beside, under or above the first ring where there is room; else in the corner.
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

  // The button in the head, and for a first visit a line that offers the tour.
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
