// Keep and share: links to a step and to the settings, pictures of the stairs, code that repeats the run.
(function (Stairs) {
  "use strict";

  const { el, set, button } = Stairs;
  const STATUS_MS = 4000;

  // What the address asks for besides a run: `#run=a%20fox&step=17&view=ledger`.
  function asked(address = location.hash.slice(1)) {
    const found = new URLSearchParams(address);
    return { run: found.get("run"), trace: found.has("trace"), step: Number(found.get("step")) || 0, view: found.get("view") };
  }

  class Keep {
    constructor(stage) {
      this.stage = stage;
      this.status = el("span", "st-told");
      this.status.setAttribute("role", "status");
      this.step = button("Copy link to this step", () => this.copy(this.link(this.kept.address), "Link copied"));
      this.again = button("Copy link to the settings", () => this.copy(this.link(this.kept.settings), "Link copied"));
      this.long = el("span", "st-note", "This run is too long for a link: share its trace or its replay.");
      this.links = el("p", "st-share", this.step, this.again, this.long);
      this.picture = el("p", "st-share", el("span", "", "Picture of the stairs:"),
        button("SVG", () => this.draw("svg")), button("PNG", () => this.draw("png")));
      this.names = el("div", "st-tabs");
      this.code = el("pre", "st-code", el("code", ""));
      this.code.tabIndex = 0;
      this.code.setAttribute("role", "region");
      this.code.setAttribute("aria-label", "Code that repeats this run");
      this.copyCode = button("Copy", () => this.copy(this.snippets[this.picked], "Code copied"), "", "Copy the code");
      this.node = el("section", "st-card st-keep",
        el("header", "", el("h2", "", "Keep and share"), this.status), this.links, this.picture,
        el("details", "", el("summary", "", "The code that repeats this run"),
          el("div", "st-repeat", this.names, this.copyCode), this.code));
    }

    // kept: links and code, from Python, of a run that is over; null while one goes on.
    show(kept, lead) {
      this.kept = kept;
      this.node.inert = !kept; // its place stays, so that nothing moves while a run goes on
      if (!kept) return;
      const offline = !this.stage.online;
      this.links.hidden = offline;
      this.step.hidden = !kept.address;
      this.again.hidden = !kept.settings;
      this.long.hidden = Boolean(kept.address);
      this.snippets = kept.snippets[lead];
      const names = Object.keys(this.snippets);
      this.names.replaceChildren(...names.map((name) => {
        const tab = button(name, () => this.pick(name));
        tab.className = "st-tab";
        return tab;
      }));
      this.pick(names.includes(this.picked) ? this.picked : names[0]);
    }

    pick(name) {
      this.picked = name;
      for (const tab of this.names.children) tab.setAttribute("aria-pressed", tab.textContent === name);
      set(this.code.firstChild, Stairs.readable(this.snippets[name]));
    }

    // The page's address with `what` after its #, and with the step and view that are shown.
    link(what) {
      const view = this.stage.tabs.id;
      const step = what.startsWith("settings=") ? "" : `&step=${this.stage.view.index + 1}&view=${view}`;
      return `${location.href.split("#")[0]}#${what}${step}`;
    }

    // The address bar follows the cursor through a recorded run.
    follow() {
      if (!this.kept?.live || !this.stage.online || !this.stage.moved) return;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        // Another run may be shown by now.
        if (this.kept?.live) history.replaceState(history.state, "", this.link(this.kept.address));
      }, 300);
    }

    // Clears the address: the run that is shown is not the one it asks for.
    forget() {
      if (this.stage.online && location.hash) history.replaceState(history.state, "", location.href.split("#")[0]);
    }

    async copy(text, done) {
      try {
        await navigator.clipboard.writeText(text);
        this.tell(done);
      } catch {
        prompt("Copy this:", text); // browsers allow the clipboard only with https and permission
      }
    }

    tell(words) {
      set(this.status, words);
      clearTimeout(this.telling);
      this.telling = setTimeout(() => set(this.status, ""), STATUS_MS);
    }

    async draw(kind) {
      const { stage } = this;
      stage.tabs.open("stairs");
      const { index, total, step, lead } = stage.view;
      const title = `${Stairs.which(step, total)}: ${Stairs.headline(step)}`;
      const { run } = lead;
      const models = run.draft ? `${run.target} with ${run.draft}` : run.target;
      const foot = Stairs.readable(`Stairs · ${models}, ${run.name}`);
      const root = Stairs.picture.svg(stage.root.querySelector(".st-stairs"), title, foot);
      const content = kind === "svg" ? Stairs.picture.text(root) : await Stairs.picture.png(root);
      if (!content) return this.tell("Too large for a PNG: take the SVG");
      Stairs.save(`stairs-step-${index + 1}.${kind}`, content, "image/svg+xml");
    }
  }

  Object.assign(Stairs, { Keep, asked });
})((globalThis.Stairs ??= {}));
