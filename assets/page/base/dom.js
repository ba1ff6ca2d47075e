// Small helpers that make parts of the page. Text goes in by textContent only, since tokens and
// prompts may hold anything.
(function (Stairs) {
  "use strict";

  // el("p", "note", "text", child, …)
  function el(tag, name, ...content) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...content.filter((c) => c !== null && c !== ""));
    return node;
  }

  // A node of an SVG picture.
  function shape(tag, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  }

  // Sets the text of a node, if it is another.
  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // A button. keys: shown in its tooltip. name: what a screen reader reads where the text is a symbol.
  function button(text, act, keys = "", name = "") {
    const node = el("button", "st-button", el("span", "", text));
    node.type = "button";
    if (name) node.setAttribute("aria-label", name);
    node.title = [name, keys && `(${keys})`].filter(Boolean).join(" ");
    node.addEventListener("click", act);
    return node;
  }

  // A labelled checkbox; act(checked) is called when it changes.
  function toggle(text, checked, act, title = "") {
    const box = el("input", "");
    Object.assign(box, { type: "checkbox", checked });
    box.addEventListener("change", () => act(box.checked));
    const label = el("label", "st-toggle", box, text);
    label.title = title;
    return label;
  }

  // For `js_on_load` of a gr.HTML component: calls draw(value) now and whenever the value changes.
  function tie(props, watch, draw) {
    draw(props.value);
    watch("value", () => draw(props.value));
  }

  // Whether the visitor asked the system for less motion.
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Draws numbers as tiles in `node`: [{value, label, meaning, tone}].
  function tiles(node, numbers) {
    while (node.children.length > numbers.length) node.lastChild.remove();
    numbers.forEach((n, i) => {
      const tile = node.children[i] || node.appendChild(el("div", "st-tile", el("b", ""), el("span", "")));
      set(tile.children[0], n.value);
      Stairs.caption(tile.children[1], n.label);
      tile.title = n.meaning;
      tile.className = `st-tile ${n.tone}`;
    });
  }

  Object.assign(Stairs, { el, shape, set, button, toggle, tie, calm, tiles });
})((globalThis.Stairs ??= {}));
