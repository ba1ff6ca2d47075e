// The glossary: what the words of the page mean, as a list, and in a small window when a word is tapped.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;
  const { statuses, backends, metrics } = Stairs.words; // words that Python uses too (stairs_core/web/vocabulary.py)
  const status = (id) => [statuses[id].name, statuses[id].glossary];
  const backend = (id) => [backends[id].label, backends[id].glossary];

  // id: [the word, what it means, other forms of it in captions]
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
    accepted: status("accepted"),
    rejected: status("rejected"),
    unchecked: status("unchecked"),
    correction: status("correction"),
    bonus: status("bonus"),
    dropped: status("dropped"),
    rate: ["acceptance rate", metrics.rate],
    alpha: ["alpha", metrics.alpha],
    call: ["tokens per target call", metrics.call, "tokens/call"],
    saved: ["target calls saved", metrics.saved],
    speedup: ["speedup", metrics.speedup, "the speed of the target alone"],
    clock: ["engine clock", "Seconds during which a lane's engine worked. Drawing this page is not on it."],
    cache: ["KV cache", "What a model keeps of the tokens it has read (keys and values), so that it need not " +
      "read them again."],
    backend: ["backend", "How the stairs are computed. Four ways, the same tokens: every row or one pass, each " +
      "with or without the cache."],
    matrix: backend("matrix"),
    matrix_kv: backend("matrix_kv"),
    single: backend("single"),
    single_kv: backend("single_kv"),
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
    mask: ["mask", "A token without a meaning of its own. The bundled target was trained to say at a mask which " +
      "token comes a few places later, so one pass can check guesses and make the next ones (SPACE).", "masks"],
    lossy: ["lossy", "Writes another text than the target would, by design. Its speed is no speedup of the target's text, " +
      "and no text is held against it."],
    helped: ["LLM-to-SLM", "The target reads the prompt once; what it made of it is added to what a small model reads. " +
      "The small model then guesses, and the target checks; or it writes alone, which is lossy.", "small model"],
    state: ["hidden state", "The numbers that a model works out at a token, on the way to the next one. They hold what " +
      "it has made of the text so far.", "hidden states"],
    head: ["head", "A small network that was trained on the target and guesses tokens from its hidden states, at far " +
      "less cost than a second model. Medusa's heads guess all at once; each of Chimera's knows what those before it " +
      "guessed; EAGLE's guesses one after another.", "heads"],
    pseudo: ["pseudo hidden state", "A guess of the hidden state that a later token will have half-way through the " +
      "target. The target's other layers make a guess of the token from it (Hidden Transfer, FIRP).",
      "pseudo hidden states", "pseudo states"],
    medusa: ["Medusa", "Several heads on one hidden state: the first guesses the token after next, the second the one " +
      "behind it, and so on, all at once. None of them knows what another one guesses."],
    provenance: ["provenance", "For guesses that were copied: the place in a text that they were copied from."],
  };

  const BY_NAME = new Map(Object.entries(WORDS).flatMap(([id, [name, , ...others]]) =>
    [name, ...others].map((text) => [text.toLowerCase(), id])));
  const NAMES = [...BY_NAME.keys()].sort((a, b) => b.length - a.length);
  const FIND = new RegExp(`(?<![\\w-])(?:${NAMES.map((n) => n.replace(/[/+]/g, "\\$&")).join("|")})(?![\\w-])`, "i");

  // The small window that shows one entry, under the word that was tapped.
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

    // Stays under the word, which moves when the page scrolls or the tour moves its card.
    follow(button) {
      if (this.button !== button) return;
      const at = button.getBoundingClientRect();
      if (!button.isConnected || at.bottom < 0 || at.top > innerHeight) return this.close();
      if (at.top !== this.at?.top || at.left !== this.at.left) Stairs.beside(this.node, (this.at = at), 6);
      requestAnimationFrame(() => this.follow(button));
    }

    // Escape closes this window only, not the tour behind it.
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

  // A word that opens its entry when tapped. text: its form in this sentence, if that is not its name.
  // Not a <button>, which could not break across lines.
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

  // As `set`, and the first word that is in the glossary opens its entry. For captions of this page
  // only, not for text that a model or a person wrote.
  function caption(node, text) {
    if (node.textContent === text) return;
    const found = FIND.exec(text);
    if (!found) return set(node, text);
    const end = found.index + found[0].length;
    node.replaceChildren(text.slice(0, found.index), term(BY_NAME.get(found[0].toLowerCase()), found[0]), text.slice(end));
  }

  // All entries, folded away.
  function glossary() {
    const list = el("dl", "");
    for (const [name, meaning] of Object.values(WORDS)) list.append(el("dt", "", name), el("dd", "", meaning));
    return el("details", "", el("summary", "", "What these words mean"), list);
  }

  Object.assign(Stairs, { term, caption, glossary });
})((globalThis.Stairs ??= {}));
