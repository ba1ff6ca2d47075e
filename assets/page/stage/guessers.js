// Adds guessers to the form and removes them.
(function (Stairs) {
  "use strict";

  const update = (props) => ({ __type__: "update", ...props });

  // Shows or hides a part, as an update for Gradio. One that is not there is not hidden again:
  // Gradio's client would wait for it to be drawn.
  Stairs.shows = (id, is) => update(is || document.getElementById(id) ? { visible: is } : {});

  // The guessers after `change` ("add", the index of one to remove, or null), as updates for Gradio.
  // reads: drafter -> whether it reads reference texts; who: the drafter of each place, or null;
  // lacking: drafters that the loaded models cannot run, separated by commas.
  Stairs.guessers = function (reads, who, change, lacking) {
    const names = Object.keys(reads).filter((name) => !(lacking || "").split(",").includes(name));
    const left = [...who];
    const next = names.filter((name) => !who.includes(name)); // those that need no reference text come first
    if (change === "add") left[left.findIndex((name) => !name)] = next.find((name) => !reads[name]) || next[0];
    else if (change !== null) left[change] = null;
    const { shows } = Stairs;
    const more = left.slice(1);
    return [
      ...more.map((name, i) => shows(`guesser-${i + 2}`, Boolean(name))),
      ...more.map((name) => update({ value: name })),
      shows("add", left.includes(null)),
      shows("references", left.some((name) => reads[name])),
    ];
  };
})((globalThis.Stairs ??= {}));
