// Helpers for charts: turns a packed figure into what plotly takes, numbers into CSV, and draws the
// marks of the legends.
(function (Stairs) {
  "use strict";

  const { shape } = Stairs;

  // Replaces names of CSS variables by their colours, so that one figure serves both themes.
  function coloured(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((v) => coloured(v, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
    }
    return value;
  }

  // For large type: fonts and margins `by` times as large.
  function enlarged(value, by) {
    if (Array.isArray(value)) return value.map((v) => enlarged(v, by));
    if (!value || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => {
      if (k === "margin") return [k, Object.fromEntries(Object.entries(v).map(([side, px]) => [side, px * by]))];
      return [k, /font$/.test(k) && v?.size ? { ...v, size: v.size * by } : enlarged(v, by)];
    }));
  }

  const parts = (packed) => (packed ? packed.split(",") : []);

  // The curves shown while lane `lead` leads; its own are thicker and in front.
  function unpacked(data, lead) {
    const behind = data.filter(({ meta }) => !meta.only && meta.lane !== lead);
    return [...behind, ...data.filter(({ meta }) => meta.lane === lead)].map((trace) => {
      const made = { ...trace, x: parts(trace.x).map(Number), y: parts(trace.y).map(Number) };
      if (trace.customdata) made.customdata = parts(trace.customdata);
      const thick = trace.line && trace.meta.lane === lead && !trace.meta.only;
      if (thick) made.line = { ...trace.line, width: trace.line.width + 1 };
      return made;
    });
  }

  // A field of a CSV file (RFC 4180). A text that a spreadsheet would run as a formula gets a ' in front.
  function field(value) {
    if (typeof value !== "string") return value === null ? "" : String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }

  const csv = ({ columns, rows }) =>
    [columns, ...rows].map((row) => row.map(field).join(",") + "\r\n").join("");

  // The mark of one entry of a legend.
  function swatch({ color, mark }) {
    const svg = shape("svg", { "aria-hidden": "true" });
    const draw = (tag, style, place) => {
      const node = svg.appendChild(shape(tag, place));
      for (const [name, value] of Object.entries(style)) node.style.setProperty(name, value);
    };
    const dash = { solid: "none", dash: "6 4", dot: "2 3", dashdot: "7 3 2 3" }[mark];
    const stroke = { stroke: color, "stroke-width": 2, fill: "none" };
    if (dash) draw("path", { ...stroke, "stroke-dasharray": dash }, { d: "M0 6H22" });
    else if (mark === "ring" || mark === "dot-mark") {
      draw("circle", mark === "ring" ? stroke : { fill: color }, { cx: 14, cy: 6, r: 5 });
    } else draw("path", mark === "fill" ? { fill: color } : { ...stroke, "stroke-width": 1 }, { d: "M4 0.5H22V11.5H4Z" });
    return svg;
  }

  Stairs.figures = { coloured, csv, enlarged, swatch, unpacked };
})((globalThis.Stairs ??= {}));
