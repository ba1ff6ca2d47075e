// What stands around the race: the legend, the glossary, a number's tile, the line of notices,
// the head of the page, the theme switch; and the one call that ties each to its Gradio component.
(function (Stairs) {
  "use strict";

  const { el, set } = Stairs;

  const LEGEND = [
    ["accepted", "accepted", "guess kept"],
    ["rejected", "rejected", "wrong guess; ×5: so many in a tree"],
    ["unchecked", "never checked", "behind a wrong guess"],
    ["correction", "correction", "the target's own, at a wrong guess"],
    ["bonus", "bonus", "the target's own, after a full keep"],
    ["dropped", "dropped", "behind the end"],
    ["copied", "copied", "stood elsewhere before: point at it"],
  ];

  const WORDS = [
    ["Target", "The large model. The text is the one it would write alone."],
    ["Draft", "The small model that guesses the next few tokens, at most K of them."],
    ["Stairs", "All beginnings of the guess, from none of it to all of it, checked by the target " +
      "at once. Each row ends in the token the target would write there."],
    ["Tree", "A guess with several ways to go on, checked at once. The text takes the one that the target follows."],
    ["Sampling", "The target draws each token by its chances, instead of taking the likeliest; with " +
      "the same dice for every lane, all must draw the same text."],
    ["Step", "One guess, one check by the target, one to K + 1 new tokens."],
    ["Engine clock", "Seconds during which a lane's engine worked. Drawing this page is not on it."],
    ["Speedup", "Tokens per second of the stairs over those of the target alone."],
    ["Acceptance rate", "Accepted tokens over all that were drafted."],
    ["Alpha", "Accepted tokens over those that were checked: what stands behind a wrong guess is left out."],
    ["Tokens per target call", "New tokens of a step, the target's own included."],
    ["Margin", "How far, in logits, the target's first choice is ahead of its second."],
  ];

  Stairs.legend = function () {
    const items = LEGEND.map(([status, name, meaning]) =>
      el("span", "", el("span", `st-t ${status}`, name), ` ${meaning}`));
    const list = el("dl", "");
    for (const [word, meaning] of WORDS) list.append(el("dt", "", word), el("dd", "", meaning));
    return el("div", "st-legend", el("div", "st-keys", ...items),
      el("details", "", el("summary", "", "What these words mean"), list));
  };

  // Called from `js_on_load` of a gr.HTML component: draws every value it is given.
  function tie(element, props, watch, draw) {
    draw(props.value);
    watch("value", () => draw(props.value));
  }

  Stairs.mountStage = function (element, props, watch) {
    const root = element.appendChild(el("div", ""));
    const stage = new Stairs.Stage(root, props.plotly);
    document.addEventListener("keydown", (event) => {
      const sent = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      if (sent && event.target.closest("#prompt")) document.getElementById("run").click();
    });
    // The address may ask for a run, which comes after the one that is on show, and for a step.
    const { run, ...asked } = Stairs.asked();
    if (!run) stage.asked = asked;
    tie(element, props, watch, (value) => stage.update(value));
    if (run) stage.asked = asked;
    addEventListener("hashchange", () => location.reload());
  };

  // A recording in a file of its own (stairs_core/render/replay.py).
  Stairs.mountReplay = function (element, value) {
    const stage = new Stairs.Stage(element.appendChild(el("div", "")));
    stage.asked = Stairs.asked();
    stage.update(value);
  };

  // One sentence: what is wrong with the input, or what is being waited for.
  Stairs.mountNotice = function (element, props, watch) {
    const line = element.appendChild(el("p", "st-notice"));
    line.setAttribute("role", "status");
    tie(element, props, watch, (value) => {
      set(line, Stairs.readable((value && value.text) || ""));
      line.className = `st-notice ${(value && value.kind) || "none"}`;
    });
  };

  // Who guesses after `change` ("add", or the index of one that goes), as updates for Gradio.
  // reads: drafter -> whether it reads reference texts; who: the drafter of each place, or null.
  Stairs.guessers = function (reads, who, change) {
    const names = Object.keys(reads);
    const left = [...who];
    if (change === "add") left[left.findIndex((name) => !name)] = names.find((n) => !who.includes(n));
    else if (change !== null) left[change] = null;
    const update = (props) => ({ __type__: "update", ...props });
    const more = left.slice(1);
    return [
      ...more.map((name) => update({ visible: Boolean(name) })),
      ...more.map((name) => update({ value: name })),
      update({ visible: left.includes(null) }),
      update({ visible: left.some((name) => reads[name]) }),
    ];
  };

  Stairs.mountHead = function (element, props, watch) {
    const mark = el("i", "st-mark", ...[1, 2, 3, 4].map(() => el("b", "")));
    mark.setAttribute("aria-hidden", "true");
    const chips = el("span", "st-chips");
    const theme = el("button", "st-button st-theme");
    theme.type = "button";
    const name = () => (document.body.classList.contains("dark") ? "Light" : "Dark");
    const label = () => set(theme, `${name()} theme`);
    theme.addEventListener("click", () => document.body.classList.toggle("dark"));
    new MutationObserver(label).observe(document.body, { attributeFilter: ["class"] });
    label();
    const root = element.appendChild(el("div", "st-head", el("h1", "", mark, "Stairs"),
      el("p", "", "A small model guesses ahead, the large one checks every step of the guess at once."),
      chips, theme));
    root.setAttribute("role", "banner");
    tie(element, props, watch, (value) => {
      chips.replaceChildren(...value.map((text) => el("span", "st-chip", Stairs.readable(text))));
    });
  };
})((globalThis.Stairs ??= {}));
