// Every step of a lane as a small stack of marks, side by side.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;

  // The statuses of a step's tokens; all wrong ones of a tree count as one.
  function stack({ tokens, parents }) {
    const all = tokens.map((t) => t.status);
    if (!parents) return all;
    const kept = tokens.filter((t) => Stairs.committed(t) || t.status === "dropped").map((t) => t.status);
    return kept.length < all.length ? [...kept, "rejected"] : kept;
  }

  // Filled marks are tokens of the text, outlined ones are guesses that were not kept.
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

  Object.assign(Stairs, { Strip });
})((globalThis.Stairs ??= {}));
