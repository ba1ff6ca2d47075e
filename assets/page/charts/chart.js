// Charts: each a card with a plotly figure from Python (stairs_core/render/charts), its numbers as a
// table, and both as files. Without plotly, as in a replay, only the tables are shown.
(function (Stairs) {
  "use strict";

  const { el, set, button, readable } = Stairs;
  const { coloured, csv, enlarged, swatch, unpacked } = Stairs.figures;
  const GAP_MS = 400;
  const NEAR = "400px"; // a chart is drawn while it is this close to the window
  const FILE = { width: 900, height: 480, top: 46, legend: 28 }; // of a saved SVG, in pixels
  let loading = null;

  // plotly.min.js is 4.6 MB and comes from this server. It is fetched while the page is idle and run,
  // which takes a second of the main thread, when the first figure is drawn.
  function prefetch(url) {
    document.head.append(Object.assign(document.createElement("link"), { rel: "prefetch", as: "script", href: url }));
  }

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

  // The item of lane `lead`, of a list with one item a lane or one for all.
  const of = (items, lead) => items[Math.min(lead, items.length - 1)];

  class Chart {
    constructor(url) {
      this.url = url;
      this.title = el("h2", "");
      this.caption = el("p", "st-chart-caption");
      this.keys = el("div", "st-chart-keys");
      this.plot = el("div", "st-plot");
      this.plot.setAttribute("role", "img");
      this.plot.hidden = !url;
      this.table = el("div", "st-chart-table");
      this.table.tabIndex = 0;
      this.table.setAttribute("role", "group");
      this.details = el("details", "", el("summary", "", "As a table"), this.table);
      this.details.open = !url;
      this.details.addEventListener("toggle", () => this.fill());
      this.use = button("", () => useK(this.advice));
      this.use.classList.add("st-use");
      this.svg = button("SVG", () => this.saveSvg(), "", "Save as SVG");
      this.csv = button("CSV", () => this.saveCsv(), "", "Save as CSV");
      this.svg.hidden = !url;
      this.node = el("section", "st-card st-chart", el("header", "", this.title), this.caption, this.keys,
        this.plot, el("footer", "", this.details, this.use, this.svg, this.csv));
      if (url) this.watch();
    }

    watch() {
      this.near = false;
      new MutationObserver(() => this.soon()).observe(document.body, { attributeFilter: ["class"] });
      new ResizeObserver(() => this.resize()).observe(this.plot);
      new IntersectionObserver(([entry]) => {
        this.near = entry.isIntersecting;
        this.offer();
        if (this.late) this.soon();
      }, { rootMargin: NEAR }).observe(this.plot);
    }

    // chart: as made in Python. lead: the index of the lane that leads. run: which run it is of.
    show(chart, lead, run) {
      const state = JSON.stringify([chart, lead, run]);
      if (state === this.state) return;
      this.state = state;
      if (run !== this.run) this.forget();
      this.run = run;
      this.node.id = `chart-${chart.id}`;
      this.chart = chart;
      this.lead = lead;
      this.numbers = of(chart.tables, lead) || null;
      set(this.title, chart.title);
      set(this.caption, readable(of(chart.captions, lead) || ""));
      this.plot.setAttribute("aria-label", readable(of(chart.said, lead) || chart.title));
      this.table.setAttribute("aria-label", `${chart.title}, as a table`);
      this.csv.disabled = this.svg.disabled = !this.numbers?.rows.length;
      this.advice = chart.use && of(chart.use, lead);
      this.offer();
      if (this.advice) set(this.use.firstChild, `Use K = ${this.advice.k}`);
      this.showKeys(of(chart.keys, lead) || []);
      if (!this.numbers && this.url) this.details.open = false;
      this.fill();
      this.soon();
    }

    // Shows the “Use K” button if the form has this guesser; its widgets may appear later.
    offer() {
      this.use.hidden = !this.advice || !kInputs()[this.advice.guesser];
    }

    forget() {
      this.keys.style.minHeight = this.keyed = "";
      this.keys.replaceChildren();
    }

    showKeys(keys) {
      const json = JSON.stringify([keys, this.lead]);
      if (json === this.keyed) return;
      this.keyed = json;
      // What is beside and below stays in place when a key goes: its line stays reserved while the run is shown.
      if (this.keys.childElementCount) this.keys.style.minHeight = `${this.keys.offsetHeight}px`;
      this.keys.replaceChildren(...keys.map((key) =>
        el("span", key.lane === this.lead ? "lead" : "", swatch(key), readable(key.text))));
    }

    // Fills the table, once it is open.
    fill() {
      if (!this.details.open || this.filled === this.numbers) return;
      this.filled = this.numbers;
      const { columns, rows } = this.numbers || { columns: [], rows: [] };
      const words = columns.map((_, i) => typeof rows[0]?.[i] === "string");
      const cell = (tag, value, i) => el(tag, words[i] ? "words" : "", value === null ? "–" : readable(String(value)));
      const head = columns.map((name, i) => Object.assign(cell("th", name, i), { scope: "col" }));
      const body = rows.map((row) => el("tr", "", ...row.map((value, i) => cell("td", value, i))));
      const caption = el("caption", "st-spoken", this.chart.title);
      this.table.replaceChildren(rows.length
        ? el("table", "", caption, el("thead", "", el("tr", "", ...head)), el("tbody", "", ...body))
        : el("p", "st-note", "Nothing to show."));
    }

    // Draws at most every GAP_MS; the last figure is always drawn. A chart outside the window waits
    // until it comes near.
    soon() {
      if (!this.url || this.timer || !this.chart) return;
      this.late = !this.near;
      if (this.late) return this.plot.classList.add("late"); // it shows an older figure
      const wait = Math.max(0, (this.last || 0) + GAP_MS - performance.now());
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.last = performance.now();
        this.draw();
      }, wait);
    }

    figure() {
      const style = getComputedStyle(this.plot);
      const data = coloured(unpacked(this.chart.data, this.lead), style);
      const layout = coloured(this.chart.layout, style);
      layout.font.family = style.fontFamily;
      return { data, layout };
    }

    async draw() {
      this.offer();
      const library = await plotly(this.url);
      const zoom = parseFloat(getComputedStyle(this.plot).getPropertyValue("--st-zoom")) || 1;
      const { data, layout } = enlarged(this.figure(), zoom);
      this.plot.classList.toggle("empty", !data.length);
      await library.react(this.plot, data, layout, { displayModeBar: false, responsive: false });
      this.plot.classList.remove("late");
      this.drawn = true;
    }

    resize() {
      if (this.drawn && this.plot.clientWidth) globalThis.Plotly.Plots.resize(this.plot);
    }

    get file() {
      return `stairs-${this.chart.id}`;
    }

    saveCsv() {
      Stairs.save(`${this.file}.csv`, csv(this.numbers), "text/csv");
    }

    // The file gets title and legend, which on the page stand around the plot.
    async saveSvg() {
      const library = await plotly(this.url);
      const { data, layout } = this.figure();
      const { width, height, top, legend } = FILE;
      const panel = getComputedStyle(this.plot).getPropertyValue("--st-panel").trim();
      Object.assign(layout, {
        showlegend: true,
        legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
        title: { text: this.chart.title, x: 0.02, xanchor: "left", y: 0.97, yanchor: "top", font: { size: 15 } },
        paper_bgcolor: panel,
        margin: { ...layout.margin, t: top + legend },
      });
      const url = await library.toImage({ data, layout }, { format: "svg", width, height });
      Stairs.save(`${this.file}.svg`, decodeURIComponent(url.slice(url.indexOf(",") + 1)), "image/svg+xml");
    }
  }

  // All charts, in a grid.
  class Charts {
    constructor(url) {
      this.grid = el("div", "st-chart-grid");
      this.node = el("section", "st-charts", this.grid);
      this.node.id = "charts";
      this.node.setAttribute("aria-label", "Charts");
      this.url = url;
      this.charts = [];
      if (url) prefetch(url);
    }

    // charts: as made in Python, always the same ones in the same order.
    show({ charts, run }, lead) {
      charts.forEach((chart, i) => {
        if (!this.charts[i]) {
          this.charts[i] = new Chart(this.url);
          this.grid.append(this.charts[i].node);
        }
        this.charts[i].show(chart, lead, run);
      });
    }
  }

  // Types K into the field of a guesser, which is a Gradio widget. guesser: its index in the form.
  function useK({ guesser, k }) {
    const input = kInputs()[guesser];
    const auto = input.closest(".st-guesser").querySelector("input[type=checkbox]");
    if (auto?.checked) auto.click();
    const value = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
    value.set.call(input, k);
    for (const type of ["input", "change"]) input.dispatchEvent(new Event(type, { bubbles: true }));
    input.scrollIntoView({ block: "nearest", behavior: Stairs.calm() ? "auto" : "smooth" });
  }

  const kInputs = () => [...document.querySelectorAll(".st-guesser input[type=number]")];

  Object.assign(Stairs, { Charts });
})((globalThis.Stairs ??= {}));
