// Token text made visible, and a step said in words.
(function (Stairs) {
  "use strict";

  const NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split(" ");
  const ORDINALS = ("first second third fourth fifth sixth seventh eighth ninth tenth " +
    "eleventh twelfth").split(" ");
  const number = (n) => NUMBERS[n] || String(n);
  const ordinal = (n) => ORDINALS[n] || `${n + 1}th`;

  const MEANING = {
    accepted: "accepted: the draft's guess, and the target says the same",
    rejected: "rejected: the first guess that the target disagrees with",
    unchecked: "never checked: it stands behind a rejected guess",
    correction: "correction: the target's own token in place of the rejected guess",
    bonus: "bonus: the target's own token after a guess that was kept whole",
    dropped: "dropped: behind the end of the text",
    plain: "written by the target alone",
  };

  // Characters that would be invisible, or that would turn the direction of what follows them.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
  const show = (c) => `‹U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

  // For running text: spaces and line ends stay what they are.
  const readable = (text) => text.replace(HIDDEN, show);

  // For one cell: every character can be seen. A lone combining mark gets a circle to stand on.
  function visible(text) {
    if (!text) return "∅";
    const marked = /^\p{M}/u.test(text) ? "◌" + text : text;
    return readable(marked.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·"));
  }

  // A token in a sentence, spaces left out, unless that would make it look like `other`.
  function quote(token, other) {
    const bare = token.text.trim();
    const alike = other && other.id !== token.id && other.text.trim() === bare;
    return `“${(!alike && readable(bare)) || visible(token.text)}”`;
  }

  // Step 7 of 28: five guessed, three kept, one corrected.
  function headline(step) {
    const drafted = step.tokens.length - 1;
    if (!drafted) return "none guessed, one written";
    const kept = step.tokens.slice(0, -1).filter((t) => t.status === "accepted").length;
    const own = { correction: ", one corrected", bonus: ", one on top" };
    return `${number(drafted)} guessed, ${kept ? number(kept) : "none"} kept` +
      (own[step.tokens.at(-1).status] || "");
  }

  // One sentence or two that tell what the stairs of a step show.
  function explain(step) {
    const drafted = step.tokens.slice(0, -1);
    const own = step.tokens.at(-1);
    const said = step.predictions[step.accepted];
    const wrong = drafted[step.accepted];
    const says = quote(said, wrong);
    const left = drafted.length - step.accepted - 1;
    const others = left === 1 ? "guess after it is" : `${number(left)} guesses after it are`;
    const rest = left > 0 ? ` The ${others} never looked at.` : "";
    let text;
    if (!drafted.length) {
      text = `There was nothing to guess: the target writes ${says} itself.`;
    } else if (left < 0) {
      text = `The target agrees with every guess: ` +
        `${drafted.length === 1 ? "it is" : `all ${number(drafted.length)} are`} kept` +
        (own.status === "bonus" ? `, and its own next token, ${says}, comes free.` : ".");
    } else if (step.accepted === 0) {
      text = `At the first guess, ${quote(wrong, said)}, the target says ${says}: ` +
        `its token is taken.${rest}`;
    } else {
      text = `The guesses hold up to ${quote(drafted[step.accepted - 1])}. At the ` +
        `${ordinal(step.accepted)}, ${quote(wrong, said)}, the target says ${says}: ` +
        `its token is taken.${rest}`;
    }
    return text + ENDS[step.stop || "none"];
  }

  const ENDS = {
    none: "",
    eos: " The text ends here.",
    length: " The length that was asked for is reached.",
    context: " The models can hold no more text.",
    stopped: " The run was stopped here.",
  };

  // One row of the stairs: what was asked, what the target said, what that meant.
  function row(step, i) {
    const said = step.predictions[i];
    const guess = i < step.tokens.length - 1 ? step.tokens[i] : null;
    const margin = `the target says ${quote(said, guess)} ` +
      `(token ${said.id}, ahead by ${said.margin.toPrecision(3)})`;
    const asked = i === 0 ? "Row 0, the text so far" : `Row ${i}, up to ${quote(step.tokens[i - 1])}`;
    const versus = guess ? `; the guess was ${quote(guess, said)} (token ${guess.id})` : "";
    if (i < step.accepted) return `${asked}: ${margin}${versus}: agreed.`;
    if (i > step.accepted) return `${asked}: ${margin}, but a guess before it was rejected: not used.`;
    return `${asked}: ${margin}${versus ? `${versus}: corrected` : ": a token on top"}. This row is kept.`;
  }

  const seconds = (s) => (s < 0.9995 ? `${(s * 1000).toFixed(s < 0.0995 ? 1 : 0)} ms` : `${s.toFixed(2)} s`);

  Object.assign(Stairs, { MEANING, readable, visible, quote, headline, explain, row, seconds });
})((globalThis.Stairs ??= {}));
