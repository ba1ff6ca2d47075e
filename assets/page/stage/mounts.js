// The calls that put the page's parts into their Gradio components (`js_on_load` of a gr.HTML), and
// the stage into a replay.
(function (Stairs) {
  "use strict";

  const { el, set, tie } = Stairs;

  Stairs.mountStage = function (element, props, watch) {
    const root = element.appendChild(el("div", ""));
    const stage = new Stairs.Stage(root, props.plotly);
    Stairs.stage = stage; // for the tour, whose button is in the head
    document.addEventListener("keydown", (event) => {
      const sent = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      if (sent && event.target.closest("#prompt")) document.getElementById("run").click();
    });
    stage.asked = Stairs.asked();
    tie(props, watch, (value) => stage.update(value));
    addEventListener("hashchange", () => location.reload());
  };

  // The stage in a replay, which is one HTML file (stairs_core/web/replay.py).
  Stairs.mountReplay = function (element, value) {
    const stage = new Stairs.Stage(element.appendChild(el("div", "")));
    stage.asked = Stairs.asked();
    stage.update(value);
  };

  // The line of notices: what is wrong with the input, or what is being waited for.
  Stairs.mountNotice = function (element, props, watch) {
    const line = element.appendChild(el("p", "st-notice"));
    line.setAttribute("role", "status");
    tie(props, watch, (value) => {
      set(line, Stairs.readable((value && value.text) || ""));
      line.className = `st-notice ${(value && value.kind) || "none"}`;
    });
  };

  Stairs.mountHead = function (element, props, watch, server) {
    const mark = el("i", "st-mark", ...[1, 2, 3, 4].map(() => el("b", "")));
    mark.setAttribute("aria-hidden", "true");
    const chips = el("span", "st-chips");
    const [tour, note] = Stairs.invitation();
    const root = element.appendChild(el("div", "st-head", el("h1", "", mark, "Stairs"),
      el("p", "", "A small model guesses ahead, the large one checks every step of the guess at once."),
      el("span", "st-switches", tour, ...Stairs.switches()), chips, note));
    root.setAttribute("role", "banner");
    element.appendChild(new Stairs.Connection(props.process, server).node);
    tie(props, watch, (value) => {
      chips.replaceChildren(...value.map((text) => el("span", "st-chip", Stairs.readable(text))));
    });
  };
})((globalThis.Stairs ??= {}));
