// The card before a run: the models, what passes cost here, and the speedup to expect.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;

  Stairs.mountPreflight = function (element, props, watch) {
    const headline = el("summary", "", "");
    const rows = el("dl", "");
    const warnings = el("ul", "");
    const card = el("details", "st-preflight", headline, rows, warnings);
    element.append(card);
    Stairs.tie(props, watch, (value) => {
      set(headline, Stairs.readable(value.headline));
      rows.replaceChildren(...value.rows.flatMap(([name, text]) =>
        [el("dt", "", name), el("dd", "", Stairs.readable(text))]));
      warnings.replaceChildren(...value.warnings.map((text) => el("li", "", Stairs.readable(text))));
    });
  };
})((globalThis.Stairs ??= {}));
