// The card before a run: the models, what passes cost here, and the speedup to expect.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const SOON_MS = 250; // what is measured already is there by then

  Stairs.mountPreflight = function (element, props, watch) {
    const headline = el("summary", "", "");
    const rows = el("dl", "");
    const warnings = el("ul", "");
    const card = el("details", "st-preflight", headline, rows, warnings);
    element.append(card);
    let late = 0;
    // While the numbers of another choice are measured, the old ones stay, greyed, so that nothing moves.
    const wait = (value) => {
      card.classList.add("waits");
      set(headline, value.headline);
    };
    Stairs.tie(props, watch, (value) => {
      clearTimeout(late);
      if (value.waits) {
        late = setTimeout(wait, SOON_MS, value);
        return;
      }
      card.classList.remove("waits");
      set(headline, Stairs.readable(value.headline));
      rows.replaceChildren(...value.rows.flatMap(([name, text]) =>
        [el("dt", "", name), el("dd", "", Stairs.readable(text))]));
      warnings.replaceChildren(...value.warnings.map((text) => el("li", "", Stairs.readable(text))));
    });
  };
})((globalThis.Stairs ??= {}));
