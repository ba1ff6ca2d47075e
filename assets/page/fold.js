// The page is a fold over a trace: `Fold` reads the lines of a trace file as they arrive, `look`
// says what is to be seen at one cursor. Nothing here touches the document.
//
// Classic scripts that share one namespace, not modules: the same files can be laid into a
// self-contained HTML page, where a module could not import another.
(function (Stairs) {
  "use strict";

  const COMMITTED = new Set(["accepted", "correction", "bonus"]);

  const STATUSES = ["accepted", "rejected", "unchecked", "correction", "bonus", "dropped"];

  // A line as in the trace file, of one as it is sent (stairs_core/render/wire.py).
  function unpack(line, lanes) {
    if (!Array.isArray(line)) return line;
    const [lane, accepted, times, stop, parents, source, tokens, said] = line;
    const [draft_seconds, verify_seconds, other_seconds, elapsed] = times.map((t) => t / 1e6);
    const { run, steps, counts } = lanes[lane];
    const start = run.prompt_ids.length + (counts.at(-1) || 0);
    const event = { type: "step", lane, index: steps.length, start, accepted, draft_seconds, verify_seconds,
      other_seconds, elapsed, stop: stop || null };
    if (parents) event.parents = parents;
    event.tokens = tokens.map(([id, text, status, probability, rank, draft, origin, special], i) => ({
      id, text, status: STATUSES[status], source: i < tokens.length - 1 ? source : "target",
      probability, rank, draft_probability: draft, origin: origin && { document: origin[0], at: origin[1] }, special,
    }));
    const { rows } = places(event);
    event.predictions = said.map((told, row) => {
      const same = event.tokens[rows.indexOf(row)];
      const [id, text, margin, special] = Array.isArray(told) ? told : [same.id, same.text, told, same.special];
      return special ? { id, text, margin, special } : { id, text, margin };
    });
    return event;
  }

  class Fold {
    // lanes: [{run, steps, stop, counts}]; counts[i]: tokens committed after step i.
    constructor() {
      this.lanes = [];
      this.taken = 0;
    }

    // Takes the lines that `text`, the trace so far, has more than last time. True if there were any.
    push(text) {
      const end = text.lastIndexOf("\n") + 1;
      if (end <= this.taken) return false;
      for (const line of text.slice(this.taken, end).split("\n")) {
        if (line.trim()) this.add(unpack(JSON.parse(line), this.lanes));
      }
      this.taken = end;
      return true;
    }

    add(event) {
      if (event.type === "run") {
        this.lanes[event.lane] = { run: event, steps: [], stop: null, counts: [] };
        return;
      }
      const lane = this.lanes[event.lane];
      if (event.type === "stop") {
        lane.stop = event;
        return;
      }
      lane.counts.push((lane.counts.at(-1) || 0) + event.tokens.filter(committed).length);
      lane.tree ||= Boolean(event.parents);
      lane.widest = Math.max(lane.widest || 0, event.tokens.length);
      const drawn = lane.run.sampling?.temperature > 0;
      const { engine, untold } = lane.run; // a log of another engine holds no texts, and may tell less
      const counted = Boolean(engine);
      lane.steps.push({ ...event, ...places(event), drawn, counted, untold, index: lane.steps.length });
    }

    // The lane whose stairs are drawn and stepped through: the one that was chosen, or else the
    // first that guesses, if any does.
    lead(chosen) {
      const lanes = this.lanes;
      return lanes[chosen] || lanes.find(guesses) || lanes.at(-1);
    }
  }

  // kept: the row where the accepted tokens end; rows[i]: the row after which token i stands (as
  // Step.kept and Step.rows in trace.py). Row 0 is the text so far, row i + 1 ends with token i.
  function places({ tokens, parents, accepted }) {
    const drafted = tokens.slice(0, -1);
    if (!parents) return { kept: accepted, rows: [...drafted.keys(), accepted] };
    const held = drafted.map((t, i) => (t.status === "accepted" || t.status === "dropped" ? i + 1 : 0));
    const kept = Math.max(0, ...held);
    return { kept, rows: [...parents.map((parent) => parent + 1), kept] };
  }

  // The rows from the text to the kept one; each but the last is followed by an accepted token.
  function path({ kept, rows }) {
    const found = [kept];
    while (found[0]) found.unshift(rows[found[0] - 1]);
    return found;
  }

  // The token that the text goes on with after a row, kept or cut off; undefined off the path.
  function taken(step, row) {
    const rows = path(step);
    const at = rows.indexOf(row);
    return at < 0 ? undefined : step.tokens[rows[at + 1] - 1] || step.tokens.at(-1);
  }

  const committed = (token) => COMMITTED.has(token.status);
  const guesses = (lane) => lane.run.k > 0 && lane.run.drafter !== "none";

  // What is to be seen at step `cursor` of the leading lane; null follows the newest step.
  // A race is seen at one moment of the engine clock: the other lanes show what they had by then.
  // `playing`: that moment, while it runs by itself.
  function look(fold, cursor, chosen, playing = null) {
    const lead = fold.lead(chosen);
    const total = lead ? lead.steps.length : 0;
    const index = cursor === null ? total - 1 : Math.max(0, Math.min(cursor, total - 1));
    const last = index === total - 1;
    const moment = playing ?? (last || index < 0 ? Infinity : lead.steps[index].elapsed);
    return {
      index,
      total,
      lead,
      following: cursor === null && playing === null,
      step: lead && lead.steps[index],
      alone: fold.lanes.find((lane) => !guesses(lane)),
      lanes: fold.lanes.map((lane) => {
        // Steps in no known order are all there at any moment.
        const whole = lane.run.untold && lane.steps.length;
        const shown = whole || (lane === lead ? index + 1 : stepsBy(lane.steps, moment));
        const at = lane === lead ? index : shown - 1;
        const tokens = shown ? lane.counts[shown - 1] : 0;
        const seconds = shown ? lane.steps[shown - 1].elapsed : 0;
        const place = shown && shown === lane.steps.length ? finish(fold, lane) : 0;
        return { lane, shown, at, tokens, seconds, place, plain: !guesses(lane) };
      }),
    };
  }

  // Which lane this was to reach its end, from 1; 0 if it was stopped, or is still on its way.
  function finish(fold, lane) {
    const ended = ({ steps, stop }) => steps.at(-1)?.elapsed && stop && stop.reason !== "stopped";
    if (!ended(lane)) return 0;
    const before = (other) => ended(other) && other.steps.at(-1).elapsed < lane.steps.at(-1).elapsed;
    return 1 + fold.lanes.filter(before).length;
  }

  // How many of `steps` had ended when the engine clock read `moment`.
  function stepsBy(steps, moment) {
    let low = 0;
    let high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle].elapsed <= moment) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // A recording opens at a step that shows the most: guesses kept, rejected and never checked.
  // Null, the end, if it has none.
  function telling(lane) {
    const kinds = (step) => new Set(step.tokens.map((t) => t.status));
    const found = lane.steps.findIndex((step, i) => {
      const has = kinds(step);
      return i > 1 && step.accepted > 1 && has.has("rejected") && has.has("unchecked");
    });
    return found < 0 ? null : found;
  }

  // Where the copied ones of `tokens` stood, as ranges: [{document, from, to}], counted from 0.
  function origins(tokens) {
    const ranges = [];
    const found = tokens.map((t) => t.origin).filter(Boolean);
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    found.sort((a, b) => order(a.document, b.document) || a.at - b.at);
    for (const { document, at } of found) {
      const last = ranges.at(-1);
      if (last && last.document === document && at <= last.to + 1) last.to = at;
      else ranges.push({ document, from: at, to: at });
    }
    return ranges;
  }

  // The tokens of a prompt.
  const prompted = ({ prompt_tokens, prompt_ids, prompt_special = {} }) =>
    prompt_tokens.map((text, i) => ({ id: prompt_ids[i], text, special: prompt_special[prompt_ids[i]] }));

  // Tokens as one text, special ones by their names.
  const shown = (tokens) => tokens.map((t) => t.text + named(t)).join("");

  // A special token is no text: its name stands between brackets of its own.
  const named = ({ special }) => (special ? `⟦${special}⟧` : "");

  // The text just before a step: the last few characters of what the lane held.
  function before(lane, index, length) {
    let text = "";
    for (let i = index - 1; i >= 0 && text.length < length; i--) {
      text = shown(lane.steps[i].tokens.filter(committed)) + text;
    }
    if (text.length < length) text = shown(prompted(lane.run)).slice(-length) + text;
    return text.slice(-length);
  }

  Object.assign(Stairs, { unpack, Fold, look, telling, committed, guesses, path, taken, origins, prompted, shown, named, before, stepsBy });
})((globalThis.Stairs ??= {}));
