// Figures come from Python (stairs_core/render/charts.py) as plotly JSON. Colours in them are names
// of this page's CSS variables, looked up here, so one figure serves both themes.
(function (Stairs) {
  "use strict";

  const { el } = Stairs;
  const GAP_MS = 400;
  let loading = null;

  // plotly.min.js is 4.6 MB: fetched once, from this server, when the first figure is drawn.
  function plotly(url) {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = url;
      script.onload = () => resolve(globalThis.Plotly);
      script.onerror = () => reject(new Error(`${url} cannot be loaded`));
      document.head.append(script);
    });
    return loading;
  }

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

  class Chart {
    constructor(node, url) {
      this.node = node;
      this.url = url;
      this.json = "";
      this.timer = 0;
      new MutationObserver(() => this.soon()).observe(document.body, { attributeFilter: ["class"] });
      new ResizeObserver(() => this.resize()).observe(node);
    }

    // lead: the number of the lane that is in front; its curves are the thick ones.
    show(json, lead) {
      if (json === this.json && lead === this.lead) return;
      this.json = json;
      this.lead = lead;
      this.soon();
    }

    // Two or three drawings a second at most; the last figure is always drawn.
    soon() {
      if (this.timer || !this.json) return;
      const wait = Math.max(0, (this.last || 0) + GAP_MS - performance.now());
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.last = performance.now();
        this.draw();
      }, wait);
    }

    async draw() {
      if (!this.url) return; // a replay, which is one file
      const library = await plotly(this.url);
      const style = getComputedStyle(this.node);
      const { data, layout } = coloured(JSON.parse(this.json), style);
      for (const curve of data) if (curve.meta === this.lead) curve.line.width += 1;
      layout.font = { ...layout.font, family: style.fontFamily };
      const options = { displayModeBar: false, responsive: false };
      await library.react(this.node, data, layout, options);
      this.drawn = true;
    }

    resize() {
      if (this.drawn && this.node.clientWidth) globalThis.Plotly.Plots.resize(this.node);
    }
  }

  // The charts of the whole run.
  class Charts {
    constructor(url) {
      const node = el("div", "st-chart");
      node.id = "chart";
      node.setAttribute("role", "img");
      node.setAttribute("aria-label", "Tokens against engine time, and speedup so far");
      this.chart = new Chart(node, url);
      this.node = el("section", "st-card st-charted",
        el("header", "", el("h2", "", "Tokens against engine time")), node);
    }

    show({ figure }, lead) {
      this.chart.show(figure, lead);
    }
  }

  Object.assign(Stairs, { Chart, Charts });
})((globalThis.Stairs ??= {}));
