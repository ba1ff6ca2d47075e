// The six stops of the tour. Each finds a step of the run that shows its subject (find), says where on
// the page it is (rings) and describes that very step (say), or says that the run has none.
(function (Stairs) {
  "use strict";

  const { number, quote, readable, seconds } = Stairs;
  const term = (...args) => Stairs.term(...args);
  const count = (step, status) => step.tokens.filter((t) => t.status === status).length;
  const own = (step) => step.tokens.at(-1);
  const many = (n, one, more = `${one}s`) => `${n < 13 ? number(n) : n} ${n === 1 ? one : more}`;
  const capital = (text) => text[0].toUpperCase() + text.slice(1);

  // A step that passes the first of `tests` that any step passes, else one with guesses; a step after
  // the first two if there is one.
  function find(lane, ...tests) {
    for (const test of [...tests, (step) => step.drafted.length > 1, (step) => step.drafted.length]) {
      const found = lane.steps.filter(test);
      if (found.length) return found.find((step) => step.index > 1) || found[0];
    }
    return null;
  }

  const wrong = (step) => count(step, "rejected") > 0;
  const full = (step) => own(step).status === "bonus" && count(step, "accepted") > 0;
  // The guesses in the place of the target's own token. A tree may end in a bonus over wrong branches:
  // then it has rejected guesses, and none of these.
  const missed = (step) => step.drafted.filter((t, i) => t.status === "rejected" && step.rows[i] === step.kept);
  const mismatch = (step) => missed(step).length > 0;
  const telling = (lane) => find(lane, (s) => mismatch(s) && count(s, "unchecked") && s.accepted > 1,
    (s) => mismatch(s) && count(s, "unchecked"), mismatch, wrong);
  const kept = (lane) => find(lane, (s) => full(s) && s.drafted.length > 1, full);

  // A list of guesses: “a”, “b” and “c”; at most six.
  function listed(tokens) {
    const quoted = tokens.slice(0, 6).map((t) => quote(t));
    const more = tokens.length - quoted.length;
    if (more) return `${quoted.join(", ")} and ${number(more)} more`;
    return quoted.length < 2 ? quoted.join("") : `${quoted.slice(0, -1).join(", ")} and ${quoted.at(-1)}`;
  }

  // Seconds per token of a lane; 0 if unknown.
  const perToken = (lane) => (lane?.counts.at(-1) ? lane.steps.at(-1).elapsed / lane.counts.at(-1) : 0);

  // Who guesses where there is no draft model.
  function undrafted(step, { run }) {
    const how = Stairs.words.guessers[run.drafter];
    if (!how || step.drafted.some((t) => t.origin)) {
      return ["Here no second model guesses: the next ", term("token", "tokens"), " are taken from elsewhere (the lane " +
        "says from where). "];
    }
    const more = run.drafter === "space" ? ["The ", term("mask", "masks"), " stand behind the rows. "]
      : Stairs.words.heads.includes(run.drafter) ? ["A ", term("head"), " is a small network that " +
        "reads what the target has worked out. "] : [];
    return ["Here no second model guesses the next ", term("token", "tokens"), `. Instead: ${how}. `, ...more];
  }

  const cells = (...names) => names.map((name) => `#view-stairs .st-stairs ${name}`).join(", ");
  const tree = (step) => Boolean(step.parents);

  const STOPS = [
    {
      title: (lane) => (lane.run.draft ? "The small model guesses" : "First there is a guess"),
      view: "stairs",
      find: telling,
      rings: (step) => [tree(step) ? cells(".st-c:not(.context):not(.says)")
        : cells(`[data-row="${step.drafted.length}"] .st-c:not(.context):not(.says)`)],
      say: (step, lane) => [
        ...(!lane.run.draft ? undrafted(step, lane) : ["A small, fast model, the ", term("draft"),
          ", guesses the next ", term("token", "tokens"), ". "]),
        `In this step it put down ${listed(step.drafted)}${tree(step) ? ", with several ways to go on" : ""}. `,
        "It is quick, and nothing is taken on trust: these are only guesses.",
      ],
    },
    {
      title: "The stairs: every beginning is checked at once",
      view: "stairs",
      find: telling,
      rings: () => ["#view-stairs .st-stairs"],
      say: (step, lane, value) => {
        const each = perToken(value.alone);
        const price = each && step.verify_seconds ? ` Checking took ${seconds(step.verify_seconds)}; the target alone took ` +
          `${seconds(each)} a token, on average.` : "";
        return tree(step) ? ["The large model, the ", term("target"), ", reads the whole ", term("tree"),
          ` of ${many(step.drafted.length, "guess", "guesses")} at once, and says at every place which token it `,
          `would write next.${price}`]
          : ["Each row is the text so far and one guess more: these are the ", term("stairs"), ". The large model, the ",
            term("target"), `, checks all ${many(step.tokens.length, "row")} at once; the last cell of a row is the `,
            `token it would write there.${price}`];
      },
    },
    {
      title: "The first mismatch",
      view: "stairs",
      find: telling,
      rings: (step) => [cells(...(wrong(step) ? [".st-c.rejected", ".st-c.says.correction"] : [".st-c.says"]))],
      say: (step) => {
        const bad = missed(step);
        if (!bad.length && wrong(step)) return ["No step of this run ends with a mismatch. The ", term("tree"),
          ` of this one has wrong branches, though: ${listed(step.drafted.filter((t) => t.status === "rejected"))} stood where `,
          "the target went another way that was guessed, too. They are ", term("rejected"), ", and so is all behind them."];
        if (!bad.length) return ["This run has no mismatch: the target took every guess it looked at. Where it does not, it ",
          "writes its own token instead, and leaves the guesses behind it unread."];
        const verb = step.drawn ? "draws" : "says";
        const one = bad.length === 1;
        const rest = count(step, "unchecked");
        const was = one ? `The guess was ${quote(bad[0], own(step))}` : `The guesses were ${listed(bad)}`;
        return [`${was}, the target ${verb} ${quote(own(step), bad[0])}. The ${one ? "guess is" : "guesses are"} `,
          term("rejected"), `, and the target's token stands in ${one ? "its" : "their"} place: the `, term("correction"), ". ",
          ...(rest ? [`${capital(many(rest, "guess", "guesses"))} ${rest === 1 ? "goes" : "go"} on from a text that was discarded: `,
            term("unchecked"), "."] : [`No guess stood behind ${one ? "it" : "them"}.`])];
      },
    },
    {
      title: "The free token on top",
      view: "stairs",
      find: (lane) => kept(lane),
      rings: () => [cells(".st-c.says.bonus", ".st-c.says.correction")],
      say: (step) => full(step) ? [
        `${step.drafted.length === 1 ? "The one guess is" : tree(step) ? `${capital(many(step.accepted, "guess", "guesses"))} in a row are`
          : `All ${many(step.drafted.length, "guess", "guesses")} are`} kept here. The target has read them `,
        `all in this pass, so it also knows what comes after: ${quote(own(step))}. That token is the `, term("bonus"),
        `. One pass, ${many(step.accepted + 1, "new token")}.`,
      ] : [
        "In this run no step kept every guess; if one did, the target's next token would come free from the same " +
        `pass, as a `, term("bonus"), ". Even so each pass gives one token of the target's own: here ",
        `${quote(own(step))}, the `, term(own(step).status === "dropped" ? "dropped" : "correction"), ".",
      ],
    },
    {
      title: "Why the text cannot change",
      view: "stairs",
      find: telling,
      rings: () => ["#verdict"],
      say: (step, lane, value) => [
        ...(lane.run.exactness === "token-exact" ? ["A guess is kept only where it is the very token that the target ",
          "writes itself: the draft changes how soon a token comes, never which one. "]
          : lane.run.exactness === "distribution-exact" ? ["Tokens are drawn here. A guess is kept just so often that ",
            "every token has the chance that the target alone gives it: the draft changes the speed, not the odds. "]
          : lane.run.exactness === "exact to the tuned model" ? ["The target of this run was tuned, to guess as well: " +
            "the text is the one that the tuned model writes alone. The model it was made from may write another. "]
          : lane.run.exactness === "lossy" ? ["This lane's text is another one, by design: ", term("lossy"), ". "]
            : [`What this lane promises: ${readable(lane.run.exactness)}. `]),
        `What the page found: ${value.verdict} `, "Only a ", term("tie"), " can part them, and ",
        term("strict"), " rule that out.",
      ],
    },
    {
      title: "Where the time goes",
      view: "ledger",
      find: telling,
      rings: () => ["#view-ledger:not([hidden])", ".st-cursor .st-clock", "#summary .st-tile"],
      say: (step, lane, value) => {
        const wrote = step.tokens.filter(Stairs.committed).length;
        const took = step.draft_seconds + step.verify_seconds + (step.other_seconds || 0);
        const plain = perToken(value.alone) * wrote;
        const parts = took ? [`This step took ${seconds(took)} on the `, term("clock"), ` for ${many(wrote, "token")}: `,
          `${seconds(step.draft_seconds)} guessing, ${seconds(step.verify_seconds)} checking. `] : ["This trace holds no times. "];
        const versus = took && plain ? [`The target alone takes ${seconds(plain)} for as many, by its average, so this step `,
          `${plain > took ? "saved" : "lost"} ${seconds(Math.abs(plain - took))}. `] : [];
        const whole = value.speedup ? [`Over the whole run: ${value.speedup}, the `, term("speedup"), "."] : [];
        return [...parts, ...versus, ...whole];
      },
    },
  ];

  // Why the tour has nothing to show, or null.
  function missing(stage) {
    const { lead } = stage;
    if (!lead?.steps.length) return "There is no run to show yet. Press Run, or open a recorded one, and start the tour again.";
    if (lead.run.engine) return "This log holds counts, no text. Open a recorded run, and start the tour again.";
    if (!find(lead)) return "Nobody guesses in this run. Run one with a guesser, or open a recorded one, and start the tour again.";
    return null;
  }

  Object.assign(Stairs, { STOPS, missing });
})((globalThis.Stairs ??= {}));
