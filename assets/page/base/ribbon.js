// A text on one line that scrolls sideways, every token in a column of the same width. On demand the
// columns are made so narrow that the whole text is seen.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;
  const CLIP = 60; // no column is wide enough for more characters

  class Ribbon {
    // label: for screen readers. content: nodes inside, as wide as all columns.
    constructor(label, ...content) {
      this.line = el("div", "st-scroll", ...content);
      this.line.tabIndex = 0;
      this.line.setAttribute("role", "region");
      this.line.setAttribute("aria-label", label);
      this.node = el("div", "st-ribbon", this.line);
      this.whole = Stairs.toggle("whole text at once", false, (on) => this.fit(on),
        "Narrow the columns until all of the text is seen");
    }

    fit(on) {
      this.node.classList.toggle("fit", on);
      this.narrow();
      const [from, to] = this.seen || [0, 0];
      this.seen = null;
      this.follow(from, to);
    }

    // Sets the number of columns.
    widen(count) {
      if (count === this.count) return;
      this.count = count;
      this.narrow();
    }

    // Every cell inherits --count, so it is set only where the width of a column depends on it.
    narrow() {
      if (this.node.classList.contains("fit")) this.node.style.setProperty("--count", Math.max(1, this.count));
    }

    // Scrolls the line, never the page, until columns `from` to `to` (exclusive) are seen. Does so
    // once for the same columns, so that the visitor can scroll away from them.
    follow(from, to) {
      const [a, b] = this.seen || [-1, -1];
      if (a === from && b === to) return;
      this.seen = [from, to];
      const style = getComputedStyle(this.node);
      const names = parseFloat(style.getPropertyValue("--names")) || 0;
      const room = this.line.clientWidth - names;
      const column = (this.line.scrollWidth - names) / Math.max(1, this.count);
      const left = this.line.scrollLeft;
      if (from * column >= left && to * column <= left + room) return;
      this.line.scrollLeft = from * column - room * 0.35;
    }
  }

  // A token in its column; empty for a log without texts.
  function column(token, run, name = "st-col") {
    const cell = el("span", name);
    spell(cell, token, run);
    return cell;
  }

  function spell(cell, token, run) {
    const text = run.engine ? "" : Stairs.cell(token).slice(0, CLIP);
    Stairs.set(cell, text);
    cell.title = text.length > 6 ? text : "";
  }

  Object.assign(Stairs, { Ribbon, column, spell });
})((globalThis.Stairs ??= {}));
