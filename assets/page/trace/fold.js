// Reads a trace: `Fold` takes the lines of a trace file as they arrive, `look` computes what the page
// shows at one position of the cursor. Nothing here touches the document.
//
// All files here are classic scripts that share one namespace, `Stairs`. Modules could not import each
// other inside a replay, which is one HTML file.
(function (Stairs) {
  "use strict";

  const { statuses } = Stairs.words;
  const STATUSES = Object.keys(statuses); // a packed step holds the index of a status
  const COMMITTED = new Set(STATUSES.filter((status) => statuses[status].committed));

  // Turns a packed step (stairs_core/web/packed_trace.py) into the line of the trace file it was made of.
  function unpack(line, lanes) {
    if (!Array.isArray(line)) return line;
    const [lane, accepted, times, stop, parents, source, tokens, predictions, probe] = line;
    const [draft_seconds, verify_seconds, other_seconds, elapsed] = times.map((t) => t / 1e6);
    const { run, steps, counts } = lanes[lane];
    const start = run.prompt_ids.length + (counts.at(-1) || 0);
    const event = { type: "step", lane, index: steps.length, start, accepted, draft_seconds, verify_seconds,
      other_seconds, elapsed, stop: stop || null };
    if (parents) event.parents = parents;
    if (probe) event.probe = probe;
    event.tokens = tokens.map(([id, text, status, probability, rank, draft, origin, special], i) => ({
      id, text, status: STATUSES[status], source: i < tokens.length - 1 ? source : "target",
      probability, rank, draft_probability: draft, origin: origin && { document: origin[0], at: origin[1] }, special,
    }));
    const { rows } = places(event);
    event.predictions = predictions.map((packed, row) => {
      const same = event.tokens[rows.indexOf(row)];
      const [id, text, margin, special] = Array.isArray(packed) ? packed : [same.id, same.text, packed, same.special];
      return special ? { id, text, margin, special } : { id, text, margin };
    });
    return event;
  }

  class Fold {
    // lanes: [{run, steps, stop, counts}]; counts[i]: tokens committed after step i.
    constructor() {
      this.lanes = [];
      this.readTo = 0;
    }

    // Reads the lines of `text`, the trace so far, that are new since the last call. True if there were any.
    push(text) {
      const end = text.lastIndexOf("\n") + 1;
      if (end <= this.readTo) return false;
      for (const line of text.slice(this.readTo, end).split("\n")) {
        if (line.trim()) this.add(unpack(JSON.parse(line), this.lanes));
      }
      this.readTo = end;
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
      lane.ahead ||= Boolean(event.probe); // its passes read more than guesses
      lane.widest = Math.max(lane.widest || 0, event.tokens.length);
      const drawn = lane.run.sampling?.temperature > 0;
      const { engine, untold } = lane.run; // a log of another engine holds no texts and may leave out more
      const counted = Boolean(engine);
      lane.steps.push({ ...event, ...places(event), drawn, counted, untold, index: lane.steps.length });
    }

    // The lane that leads, whose stairs are drawn: the chosen one, else the first that guesses, else
    // the last.
    lead(chosen) {
      const lanes = this.lanes;
      return lanes[chosen] || lanes.find(guesses) || lanes.at(-1);
    }
  }

  // Where the tokens of a step stand. Row 0 is the text so far, row i + 1 ends with drafted token i.
  // drafted: the tokens without the target's own, which is the last. kept: the row where the accepted
  // tokens end. rows[i]: the row after which token i stands. depths[r]: how many drafted tokens row r
  // has. Python reads steps the same way (Step in stairs_core/traces/records.py); tests hold both to
  // tests/helpers/steps.json.
  function places({ tokens, parents, accepted }) {
    const drafted = tokens.slice(0, -1);
    const onPath = ({ status }) => status === "accepted" || status === "dropped";
    const kept = parents ? drafted.findLastIndex(onPath) + 1 : accepted;
    const rows = [...(parents ? parents.map((parent) => parent + 1) : drafted.keys()), kept];
    const depths = [0];
    for (const i of drafted.keys()) depths.push(depths[rows[i]] + 1);
    return { drafted, kept, rows, depths };
  }

  // The rows from row 0 to the kept one, along the accepted tokens.
  function path({ kept, rows }) {
    const found = [kept];
    while (found[0]) found.unshift(rows[found[0] - 1]);
    return found;
  }

  // The token that follows a row in the text; undefined for a row that is not on the path.
  function taken(step, row) {
    const rows = path(step);
    const at = rows.indexOf(row);
    return at < 0 ? undefined : step.tokens[rows[at + 1] - 1] || step.tokens.at(-1);
  }

  const committed = (token) => COMMITTED.has(token.status);
  // Whether the lane's text is another one than the target's, by design.
  const lossy = (lane) => lane.run.exactness === "lossy";
  const guesses = (lane) => lane.run.k > 0 && lane.run.drafter !== "none";

  // What the page shows at step `cursor` of the leading lane (null: at its newest step). The other
  // lanes show what they had at that moment of the engine clock. playing: the moment, while the race is
  // played at the speed of the clock.
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
        // Steps whose order is unknown are all shown at any moment.
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

  // The position in which this lane finished, from 1; 0 if it was stopped or still runs.
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

  // The step at which a recording opens: the first with guesses kept, rejected and never checked, after
  // the first two steps; null, the end, if there is none.
  function telling(lane) {
    const kinds = (step) => new Set(step.tokens.map((t) => t.status));
    const found = lane.steps.findIndex((step, i) => {
      const has = kinds(step);
      return i > 1 && step.accepted > 1 && has.has("rejected") && has.has("unchecked");
    });
    return found < 0 ? null : found;
  }

  // Where `tokens` were copied from, as ranges: [{document, from, to}], in tokens from 0.
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

  // The prompt of a run as tokens.
  const prompted = ({ prompt_tokens, prompt_ids, prompt_special = {} }) =>
    prompt_tokens.map((text, i) => ({ id: prompt_ids[i], text, special: prompt_special[prompt_ids[i]] }));

  // The last `length` characters of the lane's text before a step.
  function before(lane, index, length) {
    let text = "";
    for (let i = index - 1; i >= 0 && text.length < length; i--) {
      text = Stairs.shown(lane.steps[i].tokens.filter(committed)) + text;
    }
    if (text.length < length) text = Stairs.shown(prompted(lane.run)).slice(-length) + text;
    return text.slice(-length);
  }

  // The lines of the trace file that `text`, a trace as the page is sent it, was made of. A lane that
  // has no end yet counts as stopped.
  function traceFile(text) {
    const fold = new Fold();
    const events = [];
    for (const line of text.split("\n").filter((line) => line.trim())) {
      const event = unpack(JSON.parse(line), fold.lanes);
      fold.add(event);
      events.push(event);
    }
    for (const [lane, { steps, stop }] of fold.lanes.entries()) {
      const written = steps.flatMap((step) => step.tokens.filter(committed)).map((token) => token.text);
      if (!stop) events.push({ type: "stop", lane, reason: "stopped", text: written.join("") });
    }
    return events.map((event) => `${JSON.stringify(event)}\n`).join("");
  }

  Object.assign(Stairs, { Fold, traceFile, look, telling, committed, guesses, lossy, path, taken, origins, prompted, before, stepsBy });
})((globalThis.Stairs ??= {}));
