// Numbers, and the text of tokens, as the page shows them.
(function (Stairs) {
  "use strict";

  const NUMBERS = "no one two three four five six seven eight nine ten eleven twelve".split(" ");
  const ORDINALS = ("first second third fourth fifth sixth seventh eighth ninth tenth " +
    "eleventh twelfth").split(" ");
  const number = (n) => NUMBERS[n] || String(n);
  const ordinal = (n) => ORDINALS[n] || `${n + 1}th`;

  // Characters that are invisible, change the writing direction, or are not allowed in an SVG.
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]/g;
  const show = (c) => `‹U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

  // For running text: hidden characters are made visible, spaces and line ends stay.
  const readable = (text) => text.replace(HIDDEN, show);

  // For one cell: spaces and line ends are made visible too. A combining mark gets a circle as its base.
  function visible(text) {
    if (!text) return "∅";
    const marked = /^\p{M}/u.test(text) ? "◌" + text : text;
    return readable(marked.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·"));
  }

  // The name of a special token, which is no text, in brackets; empty for other tokens.
  const named = ({ special }) => (special ? `⟦${special}⟧` : "");

  // The text of several tokens, special ones by their names.
  const shown = (tokens) => tokens.map((t) => t.text + named(t)).join("");

  // A token as the text of one cell.
  const cell = (token) => (token.special ? (token.text && visible(token.text)) + readable(named(token))
    : visible(token.text));

  // A token quoted in a sentence, trimmed unless it would then look like the token `other`.
  function quote(token, other) {
    if (token.special) return `the special token ${cell(token)}`;
    const bare = token.text.trim();
    const alike = other && other.id !== token.id && other.text.trim() === bare;
    return `“${(!alike && readable(bare)) || visible(token.text)}”`;
  }

  // 0.8312 as 83 %; empty if unknown.
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

  const seconds = (s) => (s < 0.9995 ? `${(s * 1000).toFixed(s < 0.0995 ? 1 : 0)} ms` : `${s.toFixed(2)} s`);

  Object.assign(Stairs, {
    number, ordinal, ranked, percent, seconds, readable, visible, shown, cell, quote,
  });
})((globalThis.Stairs ??= {}));
