// The card beside a token: its status, probabilities, margin, origin.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;

  // Rows of [name, value] for a token of a step; what the trace does not hold is left out.
  function rowsOf(lane, step, token) {
    const i = step.tokens.indexOf(token);
    const row = step.rows[i];
    const own = i === step.tokens.length - 1;
    const predicted = step.predictions[row];
    const plain = !Stairs.guesses(lane);
    const first = token.rank === 1 || predicted.id === token.id;
    const rows = [
      ["kind", token.special ? "special token: no part of the text" : ""],
      ["status", Stairs.lossy(lane) ? "written by the small model, checked by nobody (lossy)"
        : plain ? "written by the target alone" : Stairs.meaning(token.status)],
      ["by", Stairs.lossy(lane) ? "the small model" : own ? "the target" : `${Stairs.readable(token.source)}${token.status === "accepted" ? ", free" : ""}`],
      [Stairs.lossy(lane) ? "its probability" : "target's probability", token.probability === undefined ? "" :
        `${Stairs.percent(token.probability)}, its ${Stairs.ranked(token.rank)} choice`],
      ["draft's probability", Stairs.percent(token.draft_probability)],
      ["target would say", first || lane.run.engine || Stairs.lossy(lane) ? "" : `${Stairs.cell(predicted)} (token ${predicted.id})`],
      ["margin", lane.run.engine ? "" : `${predicted.margin.toPrecision(3)} logits, first over second choice`],
      ["copied", Stairs.copied([token]).replace(/^Copied /, "")],
      ["step", `${step.index + 1}, place ${i + 1} of ${step.tokens.length}`],
    ];
    return rows.filter(([, value]) => value);
  }

  class TokenCard {
    constructor() {
      this.title = el("b", "");
      this.rows = el("dl", "");
      this.node = el("div", "st-token", this.title, this.rows);
      this.node.id = "token-card";
      this.node.setAttribute("role", "status");
      this.node.hidden = true;
    }

    show(span, lane, step, token) {
      this.title.textContent = lane.run.engine ? "no text in this log" :
        `${Stairs.cell(token)}  · token ${token.id}`;
      this.rows.replaceChildren(...rowsOf(lane, step, token).flatMap(([name, value]) =>
        [el("dt", "", name), el("dd", "", value)]));
      this.node.hidden = false;
      this.place(span.getClientRects()[0] || span.getBoundingClientRect());
    }

    place(at) {
      Stairs.beside(this.node, at, 8);
    }

    hide() {
      this.node.hidden = true;
    }
  }

  Object.assign(Stairs, { TokenCard });
})((globalThis.Stairs ??= {}));
