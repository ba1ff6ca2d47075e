// Sentences about a step, a row of its stairs, and a token.
(function (Stairs) {
  "use strict";

  const { number, ordinal, readable, cell, quote } = Stairs;
  const { statuses } = Stairs.words;

  // A status by its name, and what it means.
  const meaning = (status) => `${statuses[status].name}: ${statuses[status].card}`;

  // “Step 7 of 28”. Where a log does not tell the order of its steps, they are numbered as they are sorted.
  function which(step, total) {
    return `Step ${step.index + 1} of ${total}${step.untold ? ", in no known order" : ""}`;
  }

  // Whether the number of guesses in this step is known; some logs do not tell it.
  const measured = (step) => !["lengths", "guesses"].includes(step.untold);

  // “five guessed, three kept, one corrected”
  function headline(step) {
    const drafted = step.drafted.length;
    const kept = step.drafted.filter((t) => t.status === "accepted").length;
    if (!measured(step)) return `${kept ? number(kept) : "no"} guesses kept`;
    if (!drafted) return "none guessed, one written";
    const own = { correction: step.drawn ? ", one drawn instead" : ", one corrected", bonus: ", one on top" };
    return `${number(drafted)} guessed${step.parents ? " in a tree" : ""}, ` +
      `${kept ? number(kept) : "none"} kept${own[step.tokens.at(-1).status] || ""}`;
  }

  // Whether a small model wrote the step's token in the target's place (lossy).
  const unchecked = (step) => step.tokens.at(-1).source === "slm-alone";

  // What happened in a step, in one or two sentences.
  function explain(step) {
    const { drafted } = step;
    if (step.counted) return `This log holds counts, no texts: ${headline(step)}.${measured(step) ? unread(drafted) : ""}`;
    const wrong = drafted.filter((t, i) => step.rows[i] === step.kept);
    const own = quote(step.tokens.at(-1), wrong[0]);
    const kept = Stairs.path(step).slice(1).map((row) => step.tokens[row - 1]);
    const says = `the target ${step.drawn ? "draws" : "says"} ${own}`;
    const take = `${says}: its token is taken.`;
    const full = step.tokens.at(-1).status === "bonus";
    const free = full ? `, and its own next token, ${own}, comes free.` : ".";
    let text;
    if (unchecked(step)) {
      text = `The small model writes ${own} alone: nothing is guessed and nobody checks it, so this is not the ` +
        "target's text (lossy).";
    } else if (!drafted.length) {
      text = `There was nothing to guess: the target ${step.drawn ? "draws" : "writes"} ${own} itself.`;
    } else if (!wrong.length && step.parents) {
      text = `The target follows one branch to its end, ${run(kept)}${free}`;
    } else if (!wrong.length) {
      const all = drafted.length === 1 ? "it is" : `all ${number(drafted.length)} are`;
      text = `The target ${step.drawn ? "keeps" : "agrees with"} every guess: ${all} kept${free}`;
    } else if (step.parents) {
      const start = kept.length ? `The target follows ${run(kept)}. There` : "Right after the text";
      const which = wrong.length === 1 ? quote(wrong[0], step.tokens.at(-1)) : `${number(wrong.length)} ways to go on`;
      text = `${start} the guess was ${which}, but ${take}`;
    } else if (!kept.length) {
      text = `At the first guess, ${quote(wrong[0], step.tokens.at(-1))}, ${take}`;
    } else {
      text = `The guesses hold up to ${quote(kept.at(-1))}. At the ${ordinal(kept.length)}, ` +
        `${quote(wrong[0], step.tokens.at(-1))}, ${take}`;
    }
    return text + unread(drafted, step.parents) + ENDS[step.stop || "none"];
  }

  // One more sentence on the guesses that were never compared.
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

  // The text of several tokens, quoted; only its end if it is long.
  function run(tokens) {
    const text = readable(Stairs.shown(tokens).trim()).replace(/\n/g, "↵");
    return `“${text.length > 40 ? `…${text.slice(-40)}` : text}”`;
  }

  // What the target predicts after row i, as part of a sentence.
  function predicted(step, i) {
    const best = step.predictions[i];
    const ahead = `(token ${best.id}, ahead by ${best.margin.toPrecision(3)})`;
    const guess = step.drafted.find((t, j) => step.rows[j] === i);
    if (unchecked(step)) return `the small model finds ${quote(best)} most likely ${ahead}`;
    return step.drawn ? `the target finds ${quote(best)} most likely ${ahead}`
      : `the target says ${quote(best, guess)} ${ahead}`;
  }

  // Row i of the stairs: its text, what the target predicts after it, and what followed from that.
  function row(step, i) {
    if (step.counted) return counted(step, i);
    const guess = i < step.tokens.length - 1 ? step.tokens[i] : null;
    const own = step.tokens.at(-1);
    const asked = i === 0 ? "Row 0, the text so far" : `Row ${i}, up to ${quote(step.tokens[i - 1])}`;
    const versus = guess ? `; the guess was ${quote(guess, step.predictions[i])} (token ${guess.id})` : "";
    const start = `${asked}: ${predicted(step, i)}`;
    if (i < step.kept) return `${start}${versus}: ${step.drawn ? "kept" : "agreed"}.`;
    if (i > step.kept) return `${start}, but a guess before it was rejected: not used.`;
    const drawn = `; it draws ${quote(own, guess)} (token ${own.id})`;
    const made = guess ? `${versus}${step.drawn ? `${drawn} instead` : ": corrected"}`
      : unchecked(step) ? ": it is written" : step.drawn ? `${drawn} on top` : ": a token on top";
    return `${start}${made}. This row is kept.`;
  }

  // The same for a log that only holds counts.
  function counted(step, i) {
    const asked = i === 0 ? "Row 0, the text so far" : `Row ${i}, up to the ${ordinal(i - 1)} guess`;
    if (i < step.kept) return `${asked}: the next guess is kept.`;
    if (i > step.kept) return `${asked}: a guess before it was rejected: not used.`;
    const outcome = !measured(step) ? "no other guess is kept" : i < step.tokens.length - 1 ? "the next guess is corrected" : "a token on top";
    return `${asked}: ${outcome}. This row is kept.`;
  }

  // Token i of a tree: which token it follows, and its status.
  function node(step, i) {
    const token = step.tokens[i];
    const at = step.rows[i];
    const after = at ? `after ${quote(step.tokens[at - 1])}` : "right after the text";
    const name = `${quote(token)} (token ${token.id})`;
    if (i === step.tokens.length - 1) return `${name}, ${meaning(token.status)}; ${predicted(step, at)} ${after}.`;
    const beyond = token.status === "unchecked" || token.status === "dropped";
    const instead = Stairs.taken(step, at);
    const why = beyond ? "" : `; ${predicted(step, at)} there`;
    const drawn = step.drawn && token.status === "rejected" ? `, and goes on with ${quote(instead)}` : "";
    return `${name}, guessed ${after}, ${meaning(token.status)}${why}${drawn}.`;
  }

  // Where tokens were copied from, counted from 1; empty if none was copied.
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

  Object.assign(Stairs, { meaning, which, headline, explain, row, node, copied });
})((globalThis.Stairs ??= {}));
