// What a visitor chose, kept for the next visit: the theme, the size of the type, the tour seen.
(function (Stairs) {
  "use strict";

  const { set } = Stairs;
  const LARGE = 1.35; // as --st-zoom in craft.css

  // Some browsers store nothing, such as in a frame: a choice then lasts as long as the page.
  const kept = {
    get(name) {
      try {
        return localStorage.getItem(`stairs-${name}`);
      } catch {
        return null;
      }
    },
    set(name, value) {
      try {
        localStorage.setItem(`stairs-${name}`, value);
      } catch {
        // Nothing can be stored.
      }
    },
  };

  // Media queries do not see the zoom of large type, so the widths in them grow by the same factor.
  function widen(rules, scale) {
    for (const rule of rules) {
      if (rule instanceof CSSMediaRule) {
        rule.small ??= rule.media.mediaText;
        rule.media.mediaText = rule.small.replace(/(\d+(?:\.\d+)?)px/g, (_, px) => `${px * scale}px`);
      }
    }
  }

  function enlarge(large) {
    document.body.classList.toggle("large", large);
    for (const sheet of document.styleSheets) {
      if (!sheet.href || new URL(sheet.href).origin === location.origin) widen(sheet.cssRules, large ? LARGE : 1);
    }
  }

  // Puts a node at a point of the window; the node's own pixels may be zoomed.
  function place(node, left, top) {
    const zoom = node.currentCSSZoom || 1;
    node.style.left = `${left / zoom}px`;
    node.style.top = `${top / zoom}px`;
  }

  // Puts a node under a box, or above it where there is no room; always inside the window.
  function beside(node, at, gap) {
    const { width, height } = node.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left, innerWidth - width - 12));
    const below = at.bottom + gap + height < innerHeight;
    place(node, left, below ? at.bottom + gap : Math.max(8, at.top - height - gap));
  }

  function switcher(name, act) {
    const button = Stairs.button("", () => act());
    button.id = name;
    return button;
  }

  // The two switches as buttons. What was chosen at an earlier visit is applied at once.
  function switches() {
    const { classList } = document.body;
    const size = switcher("type-size", () => {
      enlarge(!classList.contains("large"));
      kept.set("type", classList.contains("large") ? "large" : "normal");
    });
    const theme = switcher("theme", () => kept.set("theme", classList.toggle("dark") ? "dark" : "light"));
    const label = () => {
      set(theme.firstChild, `${classList.contains("dark") ? "Light" : "Dark"} theme`);
      set(size.firstChild, `${classList.contains("large") ? "Normal" : "Large"} type`);
    };
    new MutationObserver(label).observe(document.body, { attributeFilter: ["class"] });
    if (kept.get("theme")) classList.toggle("dark", kept.get("theme") === "dark");
    if (kept.get("type") === "large") enlarge(true);
    label();
    return [size, theme];
  }

  Object.assign(Stairs, { kept, place, beside, switches });
})((globalThis.Stairs ??= {}));
