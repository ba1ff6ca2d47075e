// The words of the page: what each means, in a list and, where one is used, at a tap.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;

  // id: [the word, what it means, other ways in which captions say it]
  const WORDS = {
    token: ["token", "A piece of text as a model reads and writes it: a word, a part of one, or a mark."],
    special: ["special token", "A token that is no text but tells the model something, such as where a text or a " +
      "turn begins and ends. It is shown by its name, in brackets: ⟦…⟧.", "special tokens"],
    context: ["context", "The text so far, prompt included: what both models go on from."],
    target: ["target", "The large model. The text is the one it would write alone.", "target alone"],
    draft: ["draft", "The small model that guesses the next few tokens; also such a guess. Guesses may also be " +
      "copied from text, with no second model."],
    k: ["draft length K", "How many tokens are guessed in a step, at most."],
    stairs: ["stairs", "All beginnings of the guess, from none of it to all of it, checked by the target at once. " +
      "Each row ends in the token the target would write there."],
    step: ["step", "One guess, one check by the target, one to K + 1 new tokens."],
    accepted: ["accepted", "A guess that the target keeps: it stands in the text."],
    rejected: ["rejected", "A guess that the target does not take: it is left out of the text."],
    unchecked: ["never checked", "A guess behind a rejected one. It continues a text that is not to be, so what " +
      "the target says there is not used."],
    correction: ["correction", "The target's own token, written in place of a rejected guess."],
    bonus: ["bonus", "The target's own token after guesses that were all kept. It comes from the same pass."],
    dropped: ["dropped", "A guess behind the end of the text, or beyond the length that was asked for."],
    rate: ["acceptance rate", "Accepted tokens over all that were drafted."],
    alpha: ["alpha", "Accepted tokens over those that were checked: what stands behind a wrong guess is left out."],
    call: ["tokens per target call", "New tokens of a step, the target's own included.", "tokens/call"],
    saved: ["target calls saved", "Passes of the target alone, minus those of the stairs, for the same text."],
    speedup: ["speedup", "Tokens per second of the stairs over those of the target alone, both on the engine clock.",
      "the speed of the target alone"],
    clock: ["engine clock", "Seconds during which a lane's engine worked. Drawing this page is not on it."],
    cache: ["KV cache", "What a model keeps of the tokens it has read (keys and values), so that it need not " +
      "read them again."],
    backend: ["backend", "How the stairs are computed. Four ways, the same tokens: every row or one pass, each " +
      "with or without the cache."],
    matrix: ["every row, no cache", "N guesses make N + 1 rows, each a whole text of its own, padded to one length: " +
      "the paper's picture, literally (matrix)."],
    matrix_kv: ["every row over the cache", "N + 1 rows, but the text so far comes from the cache, repeated for " +
      "every row (matrix_kv)."],
    single: ["one pass, no cache", "The longest row alone, read from its start: it holds all the others (single)."],
    single_kv: ["one pass over the cache", "Only the N guesses and the token before them are read; the rest comes " +
      "from the cache. The default (single_kv)."],
    strict: ["strict numerics", "Every pass of the target has one fixed shape, so the same text gives the same bits " +
      "however its tokens were grouped. Costs some speed."],
    tie: ["rounding tie", "Two texts part where the target's two best tokens are so close that the rounding of " +
      "the arithmetic can have chosen."],
    margin: ["margin", "How far, in logits, the target's first choice is ahead of its second."],
    tree: ["tree", "A guess with several ways to go on, checked at once. The text takes the one that the target follows."],
    sampling: ["sampling", "The target draws each token by its chances, instead of taking the likeliest."],
    dice: ["same dice", "With sampling: every lane draws with the same random numbers, so all must write the same text."],
    even: ["break-even", "Where guessing has cost as much time as it has saved: a speedup of one."],
    preflight: ["preflight", "What is checked and measured before a run: whether the models fit each other, and " +
      "what guessing may gain."],
    provenance: ["provenance", "For guesses that were copied: the place in a text that they were copied from."],
  };

  const BY_NAME = new Map(Object.entries(WORDS).flatMap(([id, [name, , ...others]]) =>
    [name, ...others].map((text) => [text.toLowerCase(), id])));
  const NAMES = [...BY_NAME.keys()].sort((a, b) => b.length - a.length);
  const FIND = new RegExp(`(?<![\\w-])(?:${NAMES.map((n) => n.replace(/[/+]/g, "\\$&")).join("|")})(?![\\w-])`, "i");

  // The one small window in which an entry opens, under the word that was tapped.
  class Entry {
    constructor() {
      this.name = el("b", "");
      this.text = el("p", "");
      this.node = el("div", "st-entry", this.name, this.text);
      this.node.id = "glossary-entry";
      this.node.setAttribute("role", "status");
      this.node.hidden = true;
      document.body.append(this.node);
      document.addEventListener("pointerdown", (e) => e.target.closest(".st-term, .st-entry") || this.close());
      document.addEventListener("keydown", (e) => this.key(e), true);
    }

    toggle(button, id) {
      const again = this.button === button;
      this.close();
      if (again) return;
      const [name, meaning] = WORDS[id];
      this.button = button;
      button.setAttribute("aria-expanded", "true");
      this.node.hidden = false;
      set(this.name, name);
      set(this.text, meaning);
      button.addEventListener("blur", () => this.close(), { once: true });
      this.follow(button);
    }

    // The page may carry the word away at any time, and the tour its card.
    follow(button) {
      if (this.button !== button) return;
      const at = button.getBoundingClientRect();
      if (!button.isConnected || at.bottom < 0 || at.top > innerHeight) return this.close();
      if (at.top !== this.at?.top || at.left !== this.at.left) Stairs.beside(this.node, (this.at = at), 6);
      requestAnimationFrame(() => this.follow(button));
    }

    // Escape closes this, and nothing that lies behind it.
    key(event) {
      if (event.key !== "Escape" || this.node.hidden) return;
      event.stopPropagation();
      this.close();
    }

    close() {
      this.button?.setAttribute("aria-expanded", "false");
      this.button = this.at = null;
      this.node.hidden = true;
    }
  }

  let entry = null;

  // A word that opens its entry. text: how it is said here, where that is not its name. No <button>,
  // which would stand in its sentence as one block.
  function term(id, text = WORDS[id][0]) {
    const button = el("span", "st-term", text);
    button.tabIndex = 0;
    button.setAttribute("role", "button");
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", "glossary-entry");
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      entry ??= new Entry();
      entry.toggle(button, id);
    });
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      button.click();
    });
    return button;
  }

  // As `set`, for a caption of this page: its first word of the glossary opens the entry. Never for
  // what a model or a person wrote.
  function caption(node, text) {
    if (node.textContent === text) return;
    const found = FIND.exec(text);
    if (!found) return set(node, text);
    const end = found.index + found[0].length;
    node.replaceChildren(text.slice(0, found.index), term(BY_NAME.get(found[0].toLowerCase()), found[0]), text.slice(end));
  }

  // All of them, folded away.
  function glossary() {
    const list = el("dl", "");
    for (const [name, meaning] of Object.values(WORDS)) list.append(el("dt", "", name), el("dd", "", meaning));
    return el("details", "", el("summary", "", "What these words mean"), list);
  }

  Object.assign(Stairs, { term, caption, glossary });
})((globalThis.Stairs ??= {}));
