// The race: for every lane its clock, how far it is, and its text token by token.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;

  class LaneCard {
    constructor(name) {
      this.name = el("h2", "", name);
      this.clock = el("span", "st-clock");
      this.clock.title = "On the engine clock, which stands still while this page is drawn";
      this.fill = el("i", "");
      this.words = el("div", "st-words");
      this.words.dir = "auto";
      this.text = el("div", "st-text", this.words);
      this.text.tabIndex = 0;
      this.text.setAttribute("role", "region");
      this.bar = el("div", "st-bar", this.fill);
      const all = el("input", "");
      Object.assign(all, { type: "checkbox", checked: true });
      all.addEventListener("change", () => this.node.classList.toggle("kept-only", !all.checked));
      const toggle = el("label", "st-toggle", all, "wrong guesses");
      toggle.title = "Show the guesses that were rejected or never checked";
      const head = el("header", "", this.name, toggle, this.clock);
      this.node = el("section", "st-card st-lane plain", head, this.bar, this.text);
      this.steps = [];
      this.places = [];
      this.marked = [];
    }

    reset(run, plain) {
      this.steps = [];
      this.words.textContent = "";
      this.shown = -1;
      this.node.classList.toggle("plain", plain);
      set(this.name, Stairs.readable(run.name));
      this.text.setAttribute("aria-label", `Text of the lane ${run.name}`);
      // What stands at each place of the text, counted in tokens from 0; see `mark`.
      this.places = run.prompt_tokens.map((piece) => el("span", "st-prompt", Stairs.readable(piece)));
      this.words.append(...this.places);
      this.marked = [];
    }

    show({ lane, shown, tokens, seconds, plain }, current) {
      if (this.run !== lane.run) {
        this.run = lane.run;
        this.reset(lane.run, plain);
      }
      for (let i = this.steps.length; i < lane.steps.length; i++) this.append(lane.steps[i], plain);
      this.shade(shown, current);
      const rate = seconds ? (tokens / seconds).toFixed(1) : "–";
      set(this.clock, `${tokens} tokens · ${seconds.toFixed(2)} s · ${rate} tok/s`);
      this.fill.style.transform = `scaleX(${Math.min(1, tokens / lane.run.max_new_tokens)})`;
    }

    append(step, plain) {
      const group = el("span", "st-step");
      group.dataset.step = step.index;
      const wrong = step.parents ? step.tokens.filter((t) => /rejected|unchecked/.test(t.status)) : [];
      step.tokens.forEach((token, i) => {
        const own = i === step.tokens.length - 1;
        if (own && wrong.length) group.append(this.others(wrong));
        if (!wrong.includes(token)) group.append(this.token(token, i, plain));
      });
      this.words.append(group);
      this.steps.push(group);
    }

    token(token, i, plain) {
      const kept = Stairs.committed(token);
      // A line end that was not kept must not end a line.
      const text = kept ? token.text : token.text.replace(/\n/g, "↵");
      const span = el("span", `st-t ${plain ? "plain" : token.status}`, Stairs.readable(text));
      if (/^\n+$/.test(text)) span.classList.add("end");
      if (token.origin) span.classList.add("copied");
      span.dataset.token = i;
      if (kept) this.places.push(span);
      return span;
    }

    // The wrong guesses of a tree, which do not follow one another: how many there were.
    others(wrong) {
      const span = el("span", "st-t rejected st-others", `×${wrong.length}`);
      const texts = wrong.slice(0, 12).map((t) => Stairs.quote(t)).join(" ");
      span.title = `Wrong guesses of the tree: ${texts}${wrong.length > 12 ? " …" : ""}`;
      return span;
    }

    // Marks the places of the text that tokens were copied from; those of one before are unmarked.
    mark(tokens) {
      for (const span of this.marked) span.classList.remove("from");
      const found = tokens.filter((t) => t.origin?.document === "text").map((t) => this.places[t.origin.at]);
      this.marked = found.filter(Boolean);
      for (const span of this.marked) span.classList.add("from");
    }

    // Steps from `shown` on are still to come at this moment; `current` is under the cursor.
    shade(shown, current) {
      if (this.shown === shown && this.current === current) return;
      const from = this.shown < 0 ? 0 : Math.min(this.shown, shown);
      for (let i = from; i < this.steps.length; i++) this.steps[i].classList.toggle("later", i >= shown);
      this.steps[this.current]?.classList.remove("now");
      this.steps[current]?.classList.add("now");
      this.shown = shown;
      this.current = current;
    }

    // Scrolls this panel, and never the page, so that step `i` can be seen. The newest step needs
    // no such help: the panel is laid out from its end, which costs no measuring while it grows.
    follow(i) {
      const group = this.steps[i];
      if (!group) return;
      const box = this.text.getBoundingClientRect();
      const place = group.getBoundingClientRect();
      const seen = place.top > box.top + 8 && place.bottom < box.bottom - 8;
      if (!seen) this.text.scrollTop += place.top - box.top - box.height * 0.4;
    }
  }

  // All lanes, and what is pointed at in their texts.
  class Race {
    constructor(pick) {
      this.node = el("div", "st-lanes");
      this.cards = [];
      this.tokens = []; // see `mark`
      for (const name of ["Target alone", "Stairs"]) this.add(name);
      this.node.addEventListener("click", (e) => {
        const at = this.find(e.target);
        if (at) pick(at);
      });
      this.node.addEventListener("mouseover", (e) => this.hint(e.target));
      this.node.addEventListener("mouseleave", () => this.mark(this.tokens));
    }

    add(name) {
      this.cards.push(new LaneCard(name));
      this.node.append(this.cards.at(-1).node);
    }

    // view: of `look`. following: the newest step is looked at, whatever it is.
    show(view, following, running) {
      this.view = view;
      while (this.cards.length > view.lanes.length) this.cards.pop().node.remove();
      while (this.cards.length < view.lanes.length) this.add("");
      view.lanes.forEach((seen, i) => {
        const leads = seen.lane === view.lead;
        this.cards[i].show(seen, leads || !following ? seen.shown - 1 : -1);
        this.cards[i].node.classList.toggle("leads", leads && view.lanes.length > 2);
        if (!following || !running) this.cards[i].follow(seen.shown - 1);
      });
    }

    // Marks where `tokens` of the leading lane were copied from, until something else is marked.
    mark(tokens) {
      this.tokens = tokens;
      this.point(tokens, this.view?.lead);
    }

    point(tokens, lane) {
      this.cards.forEach((card, i) => card.mark(this.view?.lanes[i]?.lane === lane ? tokens : []));
    }

    hint(target) {
      const { span, step, lane } = this.find(target) || {};
      const token = step?.tokens[Number(span.dataset.token)];
      if (token?.origin) this.point([token], lane);
      else this.point(this.tokens, this.view?.lead);
      if (token && !span.title) span.title = Stairs.hint(step, token, span.classList.contains("plain"));
    }

    // The token of a text that is pointed at: {span, lane, step}.
    find(target) {
      const span = target.closest(".st-t");
      const lane = span && this.view?.lanes[this.cards.findIndex((card) => card.node.contains(span))]?.lane;
      const step = lane && lane.steps[Number(span.parentNode.dataset.step)];
      return step ? { span, lane, step } : null;
    }
  }

  Object.assign(Stairs, { Race });
})((globalThis.Stairs ??= {}));
