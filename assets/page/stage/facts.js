// What Python worded of the race: where it was run, all lanes in a table, and for the lane that leads
// its numbers, the verdict, and why it paid or did not.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const SPOKEN_MS = 4000; // a screen reader is told no more often than this

  class Facts {
    // choose(lane): called when another lane is chosen to lead.
    constructor(choose) {
      this.source = el("p", "st-source");
      this.table = new Stairs.LaneTable(choose);
      this.leading = el("p", "st-leading");
      this.numbers = el("div", "st-numbers");
      this.numbers.id = "summary";
      this.verdict = el("p", "st-verdict");
      this.verdict.id = "verdict";
      this.why = el("p", "st-why");
      this.spoken = el("p", "st-spoken"); // last on the page
      this.spoken.setAttribute("aria-live", "polite");
      this.node = el("section", "st-card st-top",
        this.source, this.table.node, this.leading, this.numbers, this.verdict, this.why);
    }

    // The stage's value. lanes: as in Fold. lead: the index of the one that leads.
    show({ facts, table, source, running }, lanes, lead) {
      const { numbers, verdict, why } = facts[lead];
      this.table.show(table, facts, lanes, lead);
      this.leading.hidden = this.table.node.hidden;
      const name = lanes[lead]?.run.name;
      set(this.leading, name === undefined ? "" : `Numbers and stairs of: ${Stairs.readable(name)}`);
      Stairs.tiles(this.numbers, numbers);
      set(this.verdict, verdict.text);
      this.verdict.className = `st-verdict ${verdict.state}`;
      set(this.why, why);
      set(this.source, Stairs.readable(source.text));
      this.source.className = `st-source ${source.kind}`;
      this.speak(`${verdict.text} ${numbers.map((n) => `${n.label}: ${n.value}`).join(", ")}`, running);
    }

    // Tells a screen reader the numbers: every few seconds while they change, and when they are final.
    speak(text, running) {
      clearTimeout(this.speaking);
      const wait = running ? Math.max(0, (this.spokenAt || 0) + SPOKEN_MS - Date.now()) : 300;
      this.speaking = setTimeout(() => {
        this.spokenAt = Date.now();
        set(this.spoken, text);
      }, wait);
    }
  }

  Object.assign(Stairs, { Facts });
})((globalThis.Stairs ??= {}));
