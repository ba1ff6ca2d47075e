// The race: for every lane its clock, its progress, and its text token by token.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const SPECIAL = "A special token: it tells the model something and is no part of the text";

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
      this.flag = el("span", "st-flag");
      const head = el("header", "", this.name, this.flag, this.clock);
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
      this.text.setAttribute("aria-label", `Text of the lane ${Stairs.readable(run.name)}`);
      // The span of each token of prompt and text, by its position; used by `mark`.
      this.places = Stairs.prompted(run).map((token) =>
        special(el("span", "st-prompt", Stairs.readable(Stairs.shown([token]))), token));
      this.words.append(...this.places);
      this.marked = [];
    }

    // place: the position in which this lane finished, from 1; 0 while it has not.
    show({ lane, shown, tokens, seconds, plain, place }, current) {
      if (this.lane !== lane) {
        this.lane = lane;
        this.reset(lane.run, plain);
      }
      for (let i = this.steps.length; i < lane.steps.length; i++) this.append(lane.steps[i], plain);
      this.shade(shown, current);
      set(this.flag, place ? `⚑ ${Stairs.ranked(place)}` : "");
      const times = seconds ? `${seconds.toFixed(2)} s · ${(tokens / seconds).toFixed(1)} tok/s` : "– s · – tok/s";
      set(this.clock, `${tokens} ${tokens === 1 ? "token" : "tokens"} · ${times}`);
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
      const span = special(el("span", `st-t ${plain ? "plain" : token.status}`, this.spell(token)), token);
      if (kept && /^\n+$/.test(token.text)) span.classList.add("end");
      if (token.origin) span.classList.add("copied");
      span.dataset.token = i;
      if (kept) this.places.push(span);
      return span;
    }

    // The text of a token's span. A line end in a guess that was not kept must not break the line.
    spell(token) {
      if (this.lane.run.engine) return "▢ "; // a log of counts
      if (token.special) return Stairs.cell(token);
      const kept = Stairs.committed(token);
      if (!this.spaces) return Stairs.readable(kept ? token.text : token.text.replace(/\n/g, "↵"));
      return Stairs.visible(token.text) + (kept ? "\n".repeat(token.text.split("\n").length - 1) : "");
    }

    // Writes every token again, with spaces as dots or not.
    respell(spaces) {
      if (this.spaces === spaces) return;
      this.spaces = spaces;
      this.steps.forEach((group, i) => {
        for (const span of group.children) {
          const token = this.lane.steps[i].tokens[span.dataset.token];
          if (token) set(span, this.spell(token));
        }
      });
      Stairs.prompted(this.lane?.run || { prompt_tokens: [] }).forEach(({ text, special }, i) => special ||
        set(this.places[i], spaces ? Stairs.visible(text).replace(/↵/g, "↵\n") : Stairs.readable(text)));
    }

    // The number of wrong guesses in a tree: as text they would not follow one another.
    others(wrong) {
      const span = el("span", "st-t rejected st-others", `×${wrong.length}`);
      const texts = wrong.slice(0, 12).map((t) => Stairs.quote(t)).join(" ");
      span.title = `Wrong guesses of the tree: ${texts}${wrong.length > 12 ? " …" : ""}`;
      return span;
    }

    // Marks what `tokens` were copied from in this text, and nothing else.
    mark(tokens) {
      for (const span of this.marked) span.classList.remove("from");
      const found = tokens.filter((t) => t.origin?.document === "text").map((t) => this.places[t.origin.at]);
      this.marked = found.filter(Boolean);
      for (const span of this.marked) span.classList.add("from");
    }

    // Greys out the steps from `shown` on, which come later; marks step `current`.
    shade(shown, current) {
      if (this.shown === shown && this.current === current) return;
      const from = this.shown < 0 ? 0 : Math.min(this.shown, shown);
      for (let i = from; i < this.steps.length; i++) this.steps[i].classList.toggle("later", i >= shown);
      this.steps[this.current]?.classList.remove("now");
      this.steps[current]?.classList.add("now");
      this.shown = shown;
      this.current = current;
    }

    // Scrolls this panel, never the page, until step `i` is seen. The newest step needs no scrolling,
    // since CSS keeps the panel at its end.
    follow(i) {
      const group = this.steps[i];
      if (!group) return;
      const box = this.text.getBoundingClientRect();
      const place = group.getBoundingClientRect();
      const seen = place.top > box.top + 8 && place.bottom < box.bottom - 8;
      if (!seen) this.text.scrollTop += (place.top - box.top - box.height * 0.4) / (this.text.currentCSSZoom || 1);
    }
  }

  // Draws a special token as a chip.
  function special(span, token) {
    if (!token.special) return span;
    span.classList.add("st-special");
    span.title = SPECIAL;
    return span;
  }

  // The texts of all lanes, and the card of the token that is pointed at.
  class Race {
    constructor(pick) {
      this.lanes = el("div", "st-lanes");
      this.card = new Stairs.TokenCard();
      this.cards = [];
      this.tokens = []; // see `mark`
      this.spaces = false;
      const ghosts = Stairs.toggle("wrong guesses", true, (on) => this.lanes.classList.toggle("kept-only", !on),
        "Show the guesses that were rejected or never checked");
      const spaces = Stairs.toggle("spaces as ·", false, (on) => this.respell(on), "Show spaces and line ends");
      this.clocks = el("span", "st-clock");
      const hint = el("span", "st-hint", "Point at a token, or reach it with ↑ ↓ in its text.");
      this.node = el("div", "st-race", this.lanes, el("div", "st-tools", ghosts, spaces, this.clocks, hint), this.card.node);
      for (const name of ["Target alone", "Stairs"]) this.add(name);
      this.lanes.addEventListener("click", (e) => {
        const at = this.find(e.target);
        if (at) pick(at);
      });
      this.lanes.addEventListener("mouseover", (e) => this.hint(e.target));
      this.lanes.addEventListener("mouseleave", () => this.unhint());
      this.lanes.addEventListener("keydown", (e) => this.key(e));
      this.lanes.addEventListener("focusout", () => this.unhint());
      addEventListener("scroll", () => this.scrolled(), { passive: true });
    }

    add(name) {
      this.cards.push(new LaneCard(name));
      this.lanes.append(this.cards.at(-1).node);
    }

    // view: what `look` returned.
    show(view, running) {
      const { following } = view;
      this.view = view;
      while (this.cards.length > view.lanes.length) this.cards.pop().node.remove();
      while (this.cards.length < view.lanes.length) this.add("");
      view.lanes.forEach((seen, i) => {
        const leads = seen.lane === view.lead;
        this.cards[i].respell(this.spaces);
        this.cards[i].show(seen, leads || !following ? seen.at : -1);
        this.cards[i].node.classList.toggle("leads", leads && view.lanes.length > 2);
        if (!following || !running) this.cards[i].follow(seen.at);
      });
    }

    // The sum of all engine clocks, beside the seconds since the run began on this page (null: not live).
    tell(wall) {
      const engines = this.view.lanes.reduce((sum, { lane }) => sum + (lane.steps.at(-1)?.elapsed || 0), 0);
      set(this.clocks, wall === null ? "" : `engines ${engines.toFixed(1)} s · on this page ${wall.toFixed(1)} s`);
    }

    respell(spaces) {
      this.spaces = spaces;
      for (const card of this.cards) card.respell(spaces);
    }

    // Marks where `tokens` of the leading lane were copied from, until the next call.
    mark(tokens) {
      this.tokens = tokens;
      this.point(tokens, this.view?.lead);
    }

    point(tokens, lane) {
      this.cards.forEach((card, i) => card.mark(this.view?.lanes[i]?.lane === lane ? tokens : []));
    }

    hint(target) {
      const { span, step, lane } = this.find(target) || {};
      const token = step?.tokens[span.dataset.token];
      if (!token) return this.unhint();
      this.at?.classList.remove("pointed");
      this.at = span;
      span.classList.add("pointed");
      this.point(token.origin ? [token] : this.tokens, token.origin ? lane : this.view.lead);
      this.card.show(span, lane, step, token);
    }

    unhint() {
      this.at?.classList.remove("pointed");
      this.at = null;
      this.card.hide();
      this.point(this.tokens, this.view?.lead);
    }

    // On scrolling, the card follows a token reached by key; one under the pointer has moved away from it.
    scrolled() {
      const box = this.at?.getBoundingClientRect();
      const held = box && this.at.closest(".st-text") === document.activeElement;
      if (held && box.bottom > 0 && box.top < innerHeight) this.card.place(box);
      else this.card.hide();
    }

    // In a focused text ↑ and ↓ go from token to token, starting at the step under the cursor.
    key(event) {
      if (event.key === "Escape") return this.unhint();
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by || !event.target.classList.contains("st-text")) return;
      event.preventDefault();
      const card = this.cards.find((c) => c.text === event.target);
      const spans = [...card.words.querySelectorAll(".st-t[data-token]")].filter((s) => s.offsetParent);
      const here = spans.indexOf(this.at);
      const start = spans.findLastIndex((s) => Number(s.parentNode.dataset.step) < this.shown(card));
      const to = spans[here < 0 ? Math.max(0, start) : Math.max(0, Math.min(here + by, spans.length - 1))];
      if (!to) return;
      const { top, bottom } = to.getBoundingClientRect();
      const box = card.text.getBoundingClientRect();
      if (top < box.top || bottom > box.bottom) card.text.scrollTop += (top - box.top - box.height * 0.4) / (card.text.currentCSSZoom || 1);
      this.hint(to);
    }

    shown(card) {
      return this.view.lanes[this.cards.indexOf(card)].shown;
    }

    // The token that a node belongs to: {span, lane, step}; null if it is none.
    find(target) {
      const span = target.closest(".st-t");
      const lane = span && this.view?.lanes[this.cards.findIndex((card) => card.node.contains(span))]?.lane;
      const step = lane && lane.steps[Number(span.parentNode.dataset.step)];
      return step ? { span, lane, step } : null;
    }
  }

  Object.assign(Stairs, { Race });
})((globalThis.Stairs ??= {}));
