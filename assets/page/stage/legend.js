// The legend: what the marks of tokens mean, and the glossary under it.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;

  const COPIED = { name: "copied", legend: "taken from elsewhere: point at it" }; // not a status, but marked as one

  Stairs.legend = function () {
    const marks = Object.entries({ ...Stairs.words.statuses, copied: COPIED });
    const items = marks.map(([mark, { name, legend }]) => {
      const word = Stairs.term(mark === "copied" ? "provenance" : mark, name);
      word.classList.add("st-t", mark);
      return el("span", "", word, ` ${legend}`);
    });
    return el("div", "st-legend", el("div", "st-keys", ...items), Stairs.glossary());
  };
})((globalThis.Stairs ??= {}));
