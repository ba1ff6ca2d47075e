// Token text made visible, and a step said in words.
(function (Stairs) {
  "use strict";

  const NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split(" ");
  const ORDINALS = ("first second third fourth fifth sixth seventh eighth ninth tenth " +
    "eleventh twelfth").split(" ");
  const number = (n) => NUMBERS[n] || String(n);
  const ordinal = (n) => ORDINALS[n] || `${n + 1}th`;

  const MEANING = {
    accepted: "accepted: a guess that the target keeps",
    rejected: "rejected: a guess that the target does not take",
    unchecked: "never checked: it stands behind a rejected guess",
    correction: "correction: the target's own token in place of what was rejected",
    bonus: "bonus: the target's own token after guesses that were all kept",
    dropped: "dropped: behind the end of the text",
    plain: "written by the target alone",
  };

  // Characters that would be invisible, turn the direction of what follows them, or that no SVG may hold.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]/g;
  const show = (c) => `‹U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

  // For running text: spaces and line ends stay what they are.
  const readable = (text) => text.replace(HIDDEN, show);

  // For one cell: every character can be seen. A lone combining mark gets a circle to stand on.
  function visible(text) {
    if (!text) return "∅";
    const marked = /^\p{M}/u.test(text) ? "◌" + text : text;
    return readable(marked.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·"));
  }

  // A token in one cell.
  const cell = (token) => (token.special ? (token.text && visible(token.text)) + readable(Stairs.named(token))
    : visible(token.text));

  // A token in a sentence, spaces left out, unless that would make it look like `other`.
  function quote(token, other) {
    if (token.special) return `the special token ${cell(token)}`;
    const bare = token.text.trim();
    const alike = other && other.id !== token.id && other.text.trim() === bare;
    return `“${(!alike && readable(bare)) || visible(token.text)}”`;
  }

  // Which step it is, of how many. A log may not tell their order: then it is a place among them.
  function which(step, total) {
    return `Step ${step.index + 1} of ${total}${step.untold ? ", in no known order" : ""}`;
  }

  // Whether a log tells how many guesses this step made.
  const measured = (step) => !["lengths", "guesses"].includes(step.untold);

  // Step 7 of 28: five guessed, three kept, one corrected.
  function headline(step) {
    const drafted = step.tokens.length - 1;
    const kept = step.tokens.slice(0, -1).filter((t) => t.status === "accepted").length;
    if (!measured(step)) return `${kept ? number(kept) : "no"} guesses kept`;
    if (!drafted) return "none guessed, one written";
    const own = { correction: step.drawn ? ", one drawn instead" : ", one corrected", bonus: ", one on top" };
    return `${number(drafted)} guessed${step.parents ? " in a tree" : ""}, ` +
      `${kept ? number(kept) : "none"} kept${own[step.tokens.at(-1).status] || ""}`;
  }

  // One sentence or two that tell what the stairs of a step show.
  function explain(step) {
    const drafted = step.tokens.slice(0, -1);
    if (step.counted) return `This log holds counts, no texts: ${headline(step)}.${measured(step) ? unread(drafted) : ""}`;
    const wrong = drafted.filter((t, i) => step.rows[i] === step.kept);
    const own = quote(step.tokens.at(-1), wrong[0]);
    const held = Stairs.path(step).slice(1).map((row) => step.tokens[row - 1]);
    const says = `the target ${step.drawn ? "draws" : "says"} ${own}`;
    const take = `${says}: its token is taken.`;
    const told = step.tokens.at(-1).status === "bonus";
    const free = told ? `, and its own next token, ${own}, comes free.` : ".";
    let text;
    if (!drafted.length) {
      text = `There was nothing to guess: the target ${step.drawn ? "draws" : "writes"} ${own} itself.`;
    } else if (!wrong.length && step.parents) {
      text = `The target follows one branch to its end, ${run(held)}${free}`;
    } else if (!wrong.length) {
      const all = drafted.length === 1 ? "it is" : `all ${number(drafted.length)} are`;
      text = `The target ${step.drawn ? "keeps" : "agrees with"} every guess: ${all} kept${free}`;
    } else if (step.parents) {
      const start = held.length ? `The target follows ${run(held)}. There` : "Right after the text";
      const which = wrong.length === 1 ? quote(wrong[0], step.tokens.at(-1)) : `${number(wrong.length)} ways to go on`;
      text = `${start} the guess was ${which}, but ${take}`;
    } else if (!held.length) {
      text = `At the first guess, ${quote(wrong[0], step.tokens.at(-1))}, ${take}`;
    } else {
      text = `The guesses hold up to ${quote(held.at(-1))}. At the ${ordinal(held.length)}, ` +
        `${quote(wrong[0], step.tokens.at(-1))}, ${take}`;
    }
    return text + unread(drafted, step.parents) + ENDS[step.stop || "none"];
  }

  // What was never compared, in one more sentence.
  function unread(drafted, tree) {
    const left = drafted.filter((t) => t.status === "unchecked").length;
    const behind = tree ? "behind wrong ones" : "after it";
    if (!left) return "";
    return left === 1 ? ` The guess ${behind} is never looked at.`
      : ` The ${number(left)} guesses ${behind} are never looked at.`;
  }

  const ENDS = {
    none: "",
    eos: " The text ends here.",
    length: " The length that was asked for is reached.",
    context: " The models can hold no more text.",
    stopped: " The run was stopped here.",
  };

  // The text of several tokens, the last of it where it is long.
  function run(tokens) {
    const text = readable(Stairs.shown(tokens).trim()).replace(/\n/g, "↵");
    return `“${text.length > 40 ? `…${text.slice(-40)}` : text}”`;
  }

  // What the target made of one row, in the middle of a sentence.
  function said(step, i) {
    const best = step.predictions[i];
    const ahead = `(token ${best.id}, ahead by ${best.margin.toPrecision(3)})`;
    const guess = step.tokens.slice(0, -1).find((t, j) => step.rows[j] === i);
    return step.drawn ? `the target finds ${quote(best)} most likely ${ahead}`
      : `the target says ${quote(best, guess)} ${ahead}`;
  }

  // One row of the stairs: what was asked, what the target said, what that meant.
  function row(step, i) {
    if (step.counted) return counted(step, i);
    const guess = i < step.tokens.length - 1 ? step.tokens[i] : null;
    const own = step.tokens.at(-1);
    const asked = i === 0 ? "Row 0, the text so far" : `Row ${i}, up to ${quote(step.tokens[i - 1])}`;
    const versus = guess ? `; the guess was ${quote(guess, step.predictions[i])} (token ${guess.id})` : "";
    const told = `${asked}: ${said(step, i)}`;
    if (i < step.kept) return `${told}${versus}: ${step.drawn ? "kept" : "agreed"}.`;
    if (i > step.kept) return `${told}, but a guess before it was rejected: not used.`;
    const drawn = `; it draws ${quote(own, guess)} (token ${own.id})`;
    const made = guess ? `${versus}${step.drawn ? `${drawn} instead` : ": corrected"}`
      : step.drawn ? `${drawn} on top` : ": a token on top";
    return `${told}${made}. This row is kept.`;
  }

  // The same where only counts are known.
  function counted(step, i) {
    const asked = i === 0 ? "Row 0, the text so far" : `Row ${i}, up to the ${ordinal(i - 1)} guess`;
    if (i < step.kept) return `${asked}: the next guess is kept.`;
    if (i > step.kept) return `${asked}: a guess before it was rejected: not used.`;
    const told = !measured(step) ? "no other guess is kept" : i < step.tokens.length - 1 ? "the next guess is corrected" : "a token on top";
    return `${asked}: ${told}. This row is kept.`;
  }

  // One token of a tree: where it stands, and what became of it.
  function node(step, i) {
    const token = step.tokens[i];
    const at = step.rows[i];
    const after = at ? `after ${quote(step.tokens[at - 1])}` : "right after the text";
    const name = `${quote(token)} (token ${token.id})`;
    if (i === step.tokens.length - 1) return `${name}, ${MEANING[token.status]}; ${said(step, at)} ${after}.`;
    const beyond = token.status === "unchecked" || token.status === "dropped";
    const instead = Stairs.taken(step, at);
    const why = beyond ? "" : `; ${said(step, at)} there`;
    const drawn = step.drawn && token.status === "rejected" ? `, and goes on with ${quote(instead)}` : "";
    return `${name}, guessed ${after}, ${MEANING[token.status]}${why}${drawn}.`;
  }

  // 0.8312 as 83 %; nothing where it is not known.
  function percent(p) {
    if (p === undefined || p === null) return "";
    if (p > 0 && p < 0.001) return "under 0.1 %";
    return `${(100 * p).toFixed(p < 0.0995 || (p > 0.995 && p < 1) ? 1 : 0)} %`;
  }

  // 1 as first, 21 as 21st.
  function ranked(n) {
    if (n <= ORDINALS.length) return ordinal(n - 1);
    const teen = n % 100 > 10 && n % 100 < 14;
    return n + ((!teen && ["th", "st", "nd", "rd"][n % 10]) || "th");
  }

  // Where copied tokens stood, counted from 1; nothing where none was copied.
  function copied(tokens) {
    const ranges = Stairs.origins(tokens);
    if (!ranges.length) return "";
    const places = ranges.slice(0, 3).map(({ document, from, to }) => {
      const name = document === "text" ? "the text" : `“${readable(document.slice(0, 60))}”`;
      return from === to ? `${name}, token ${from + 1}` : `${name}, tokens ${from + 1} to ${to + 1}`;
    });
    const more = ranges.length > 3 ? `, and ${number(ranges.length - 3)} more` : "";
    return `Copied from ${places.join("; ")}${more}.`;
  }

  const seconds = (s) => (s < 0.9995 ? `${(s * 1000).toFixed(s < 0.0995 ? 1 : 0)} ms` : `${s.toFixed(2)} s`);

  Object.assign(Stairs, {
    MEANING, readable, visible, cell, quote, which, headline, explain, row, node, copied, percent, ranked, number, seconds,
  });
})((globalThis.Stairs ??= {}));
