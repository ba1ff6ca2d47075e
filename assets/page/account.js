// What a step cost and gained, in numbers and in a sentence: the ledger draws what stands here.
(function (Stairs) {
  "use strict";

  // Seconds after which `lane` had just so many tokens; undefined while it has not come so far.
  function reached(lane, tokens) {
    const i = lane.counts[tokens - 1] === tokens ? tokens - 1 : lane.counts.indexOf(tokens);
    return tokens ? lane.steps[i]?.elapsed : 0;
  }

  // One step in numbers, times in seconds. plain, gained, total: undefined where alone has not come so far.
  function account(lane, alone, i) {
    const step = lane.steps[i];
    const [before, after] = [lane.counts[i - 1] || 0, lane.counts[i]];
    const guesses = step.tokens.slice(0, -1);
    const took = step.elapsed - (lane.steps[i - 1]?.elapsed || 0);
    const { draft_seconds: guessing, verify_seconds: checking } = step;
    const end = reached(alone, after);
    const plain = end === undefined ? undefined : end - reached(alone, before);
    return {
      tokens: after - before,
      guesses: guesses.length,
      wasted: guesses.filter((t) => t.status !== "accepted").length,
      guessing, checking, rest: Math.max(0, took - guessing - checking), took, plain,
      gained: plain === undefined ? undefined : plain - took,
      total: plain === undefined ? undefined : end - step.elapsed,
    };
  }

  // Milliseconds with their sign.
  const signed = (seconds) => `${seconds < 0 ? "−" : "+"}${Math.abs(seconds) < 0.00995
    ? Math.abs(seconds * 1000).toFixed(1) : Math.round(Math.abs(seconds * 1000))}`;
  const many = (n, one, more = `${one}s`) => `${n} ${n === 1 ? one : more}`;
  const verdict = (seconds) => `${Stairs.seconds(Math.abs(seconds))} ${seconds < 0 ? "lost" : "gained"}`;

  function sentence(entry, i, alone) {
    const took = `Step ${i + 1} took ${Stairs.seconds(entry.took)} for ${many(entry.tokens, "token")}`;
    const guesses = many(entry.guesses, "guess", "guesses");
    const wasted = !entry.guesses ? "nothing was guessed"
      : `${entry.wasted || "none"} of ${guesses} ${entry.wasted === 1 ? "was" : "were"} wasted`;
    if (entry.plain === undefined) {
      const why = alone.stop ? "ended before it wrote as many" : "has not come so far yet";
      return `${took}; ${wasted}. The target alone ${why}, so there is nothing to compare.`;
    }
    return `${took}, which cost the target alone ${Stairs.seconds(entry.plain)}: ${verdict(entry.gained)}; ` +
      `${wasted}. So far ${verdict(entry.total)}.`;
  }

  Stairs.book = { account, many, sentence, signed };
})((globalThis.Stairs ??= {}));
