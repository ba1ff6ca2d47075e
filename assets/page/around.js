// What stands around the race: the legend, the line of notices, the head of the page; and the one
// call that ties each to its Gradio component.
(function (Stairs) {
  "use strict";

  const { el, set, tie } = Stairs;

  const LEGEND = [
    ["accepted", "accepted", "guess kept"],
    ["rejected", "rejected", "wrong guess; ×5: so many in a tree"],
    ["unchecked", "never checked", "behind a wrong guess"],
    ["correction", "correction", "the target's own, at a wrong guess"],
    ["bonus", "bonus", "the target's own, after a full keep"],
    ["dropped", "dropped", "behind the end"],
    ["copied", "copied", "stood elsewhere before: point at it"],
  ];

  Stairs.legend = function () {
    const items = LEGEND.map(([status, name, meaning]) => {
      const word = Stairs.term(status === "copied" ? "provenance" : status, name);
      word.classList.add("st-t", status);
      return el("span", "", word, ` ${meaning}`);
    });
    return el("div", "st-legend", el("div", "st-keys", ...items), Stairs.glossary());
  };

  Stairs.mountStage = function (element, props, watch) {
    const root = element.appendChild(el("div", ""));
    const stage = new Stairs.Stage(root, props.plotly);
    Stairs.stage = stage; // what the tour, started in the head, goes over
    document.addEventListener("keydown", (event) => {
      const sent = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      if (sent && event.target.closest("#prompt")) document.getElementById("run").click();
    });
    stage.asked = Stairs.asked();
    tie(props, watch, (value) => stage.update(value));
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
    tie(props, watch, (value) => {
      set(line, Stairs.readable((value && value.text) || ""));
      line.className = `st-notice ${(value && value.kind) || "none"}`;
    });
  };

  // Who guesses after `change` ("add", or the index of one that goes), as updates for Gradio.
  // reads: drafter -> whether it reads reference texts; who: the drafter of each place, or null;
  // lacking: those that the models in use cannot do, between commas.
  Stairs.guessers = function (reads, who, change, lacking) {
    const names = Object.keys(reads).filter((name) => !(lacking || "").split(",").includes(name));
    const left = [...who];
    const next = names.filter((name) => !who.includes(name)); // who needs no texts goes first
    if (change === "add") left[left.findIndex((name) => !name)] = next.find((name) => !reads[name]) || next[0];
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
    const [tour, note] = Stairs.invitation();
    const root = element.appendChild(el("div", "st-head", el("h1", "", mark, "Stairs"),
      el("p", "", "A small model guesses ahead, the large one checks every step of the guess at once."),
      el("span", "st-switches", tour, ...Stairs.switches()), chips, note));
    root.setAttribute("role", "banner");
    tie(props, watch, (value) => {
      chips.replaceChildren(...value.map((text) => el("span", "st-chip", Stairs.readable(text))));
    });
  };
})((globalThis.Stairs ??= {}));
