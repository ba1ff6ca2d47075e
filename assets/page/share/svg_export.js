// The stairs of a step, or its tree, as a picture: an SVG file, and from it a PNG.
(function (Stairs) {
  "use strict";

  const { shape } = Stairs;
  const MARGIN = 16;
  const GAP = 12; // between the cells and the title above them, or the models below
  const LINE = 18; // of both texts
  const LEAST = 420; // no picture is narrower
  const SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  const MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";

  // A text in lines that are no wider than `most`; a word that is wider goes on in the next line.
  function lines(text, most, weight) {
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `${weight} 14px ${SANS}`;
    const fits = (line) => pen.measureText(line).width <= most;
    const found = [""];
    for (const word of text.split(" ")) {
      if (found.at(-1) && fits(`${found.at(-1)} ${word}`)) found.push(`${found.pop()} ${word}`);
      else {
        if (found.at(-1)) found.push("");
        for (const c of word) found.push(...(fits(found.at(-1) + c) ? [found.pop() + c] : [c]));
      }
    }
    return found;
  }

  // An SVG of the drawn cells in `grid`, in the colours of the current theme.
  function svg(grid, title, foot) {
    const scrolled = [grid.scrollLeft, grid.scrollTop];
    grid.scrollTo(0, 0); // puts cells that stick to the edge back in their place
    const style = getComputedStyle(grid);
    const colour = (name) => style.getPropertyValue(`--st-${name}`).trim();
    const cells = [...grid.querySelectorAll(".st-c, .st-light, .st-link")];
    const right = Math.max(...cells.map((c) => c.offsetLeft + c.offsetWidth), LEAST);
    const bottom = Math.max(...cells.map((c) => c.offsetTop + c.offsetHeight));
    const [above, below] = [lines(title, right, 650), lines(foot, right, 400)];
    const top = MARGIN + above.length * LINE + GAP;
    const end = top + bottom + GAP;
    const [width, height] = [right + 2 * MARGIN, end + below.length * LINE + MARGIN];
    const root = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    root.append(shape("title", {}, title), shape("rect", { width, height, fill: colour("panel") }));
    const words = (texts, from, fill, weight) => root.append(...texts.map((text, i) => shape("text",
      { x: MARGIN, y: from + i * LINE + 13, fill, "font-family": SANS, "font-size": 14, "font-weight": weight }, text)));
    words(above, MARGIN, colour("ink"), 650);
    for (const cell of cells) root.append(...drawn(cell, top, colour));
    words(below, end, colour("soft"), 400);
    grid.scrollTo(...scrolled);
    return root;
  }

  // One cell, the highlight of a row, or a line of a tree, as SVG nodes. top: where the cells begin.
  function drawn(cell, top, colour) {
    const [x, y] = [cell.offsetLeft + MARGIN, cell.offsetTop + top];
    const [width, height] = [cell.offsetWidth, cell.offsetHeight];
    const accent = { stroke: colour("acc"), "stroke-width": 2 };
    if (cell.classList.contains("st-light")) {
      return [shape("rect", { x, y, width, height, rx: 9, fill: colour("acc"), "fill-opacity": 0.14, ...accent })];
    }
    const look = getComputedStyle(cell);
    if (cell.classList.contains("st-link")) {
      const stroke = { fill: "none", stroke: look.borderBottomColor, "stroke-width": 2 };
      const corner = look.borderLeftStyle === "none" || !parseFloat(look.borderLeftWidth) ? "" : `M${x + 1} ${y}`;
      return [shape("path", { d: `${corner || `M${x} ${y + height - 1}`} L${x + 1} ${y + height - 1} H${x + width}`, ...stroke })];
    }
    const thick = parseFloat(look.borderTopWidth);
    const dash = { dashed: "5 3", dotted: "1.5 2.5" }[look.borderTopStyle];
    const box = shape("rect", { x: x + thick / 2, y: y + thick / 2, width: width - thick, height: height - thick,
      rx: 6, fill: look.backgroundColor, stroke: look.borderTopColor, "stroke-width": thick,
      ...(dash ? { "stroke-dasharray": dash } : {}) });
    const text = shape("text", { x: x + width / 2, y: y + height / 2, fill: look.color, "font-family": MONO,
      "font-size": parseFloat(look.fontSize), "font-weight": look.fontWeight, "font-style": look.fontStyle,
      "text-anchor": "middle", "dominant-baseline": "central",
      "text-decoration": look.textDecorationLine.includes("through") ? "line-through" : "none" }, fitted(cell));
    return [box, text];
  }

  // A token too long for its cell is cut, as it is on the page.
  function fitted(cell) {
    const text = cell.textContent;
    if (cell.scrollWidth <= cell.clientWidth + 1) return text;
    const most = Math.max(1, Math.floor((text.length * cell.clientWidth) / cell.scrollWidth) - 1);
    return `${[...text].slice(0, most).join("")}…`;
  }

  // Lets the visitor save a file.
  function save(name, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  const text = (root) => new XMLSerializer().serializeToString(root);

  // A promise of a PNG, at twice the resolution.
  function png(root) {
    const { width, height } = root.viewBox.baseVal;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 2 * width, height: 2 * height });
    const image = new Image();
    const url = URL.createObjectURL(new Blob([text(root)], { type: "image/svg+xml" }));
    return new Promise((resolve, reject) => {
      image.onload = () => {
        canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
        URL.revokeObjectURL(url);
        canvas.toBlob(resolve, "image/png");
      };
      image.onerror = () => reject(new Error("the picture cannot be drawn"));
      image.src = url;
    });
  }

  Stairs.picture = { svg, png, text };
  Object.assign(Stairs, { save });
})((globalThis.Stairs ??= {}));
