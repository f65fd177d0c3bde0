// The page of one video: its ESVs for some classes, the way from prior to score, and the frames in step.

import { ways } from "./adjacent.js";
import { className } from "./classes.js";
import { counted, field, made, number, plain } from "./dom.js";
import { contrast, panels, sides, values, verdict } from "./esvs.js";
import { further } from "./further.js";
import { Near } from "./near.js";
import { Player } from "./player.js";
import { heatMap, topScores } from "./scores.js";
import { ask } from "./server.js";
import { address, go } from "./state.js";
import { Steps } from "./steps.js";

export async function video(output, parameters, signal) {
  const chosen = {
    video: parameters.get("video"), n: parameters.get("length"), classes: parameters.get("classes"),
    contrast: parameters.get("contrast"), beside: parameters.get("beside"),
  };
  const own = await ask("video", chosen, signal);
  document.body.classList.remove("stepping", "playing", "running");
  const title = `${plain(own.video_id)}: ${plain(output.output)}`;
  const around = ways();
  const heading = [
    around.box,
    made("header.of-video", {}, made("h1", {}, made("bdi", {}, plain(own.video_id))), verdict(own)),
  ];
  if (own.status !== "ok") {
    return { title, content: [...heading, withoutEsvs(own)], ready: () => around.begin(own, parameters, signal) };
  }
  const steps = new Steps(output, own);
  const player = new Player(output, own, steps);
  const near = new Near(output, own, steps);
  const tables = further(output, own, steps);
  const content = [
    ...heading,
    facts(output, own),
    lengths(own),
    steps.controls(player.box),
    own.other ? sides(output, own, steps) : panels(output, own, steps),
    output.other === null ? null : besideLink(output, Boolean(own.other)),
    near.box,
    contrast(output, own, steps),
    heatMap(output, own, steps),
    topScores(output, own),
    ...tables.parts,
    values(output, own),
  ];
  const ready = () => {
    near.begin(signal);
    steps.begin(parameters.get("element"), signal);
    player.begin(signal);
    tables.begin(signal);
    around.begin(own, parameters, signal);
  };
  return { title, content, ready };
}

function withoutEsvs(own) {
  return made("p.empty", {}, `This video has no ESVs. Status: ${own.status}. ${plain(own.reason ?? "")}`);
}

function facts(output, own) {
  const score = (id) => number(own.top.find((each) => each.class === id)?.score);
  const named = (id) => (id === null ? "–" : `${className(output, id)}`);
  const pairs = [
    ["Label", named(own.label)],
    ["Predicted", `${named(own.predicted)}, probability ${score(own.predicted)}`],
    ["Elements", `${own.n} of ${counted(own.n_frames, "frame")}`],
    ["ESVs", `${own.outcome.split("; ").pop()}, in ${own.unit}; ${counted(own.evaluations, "head evaluation")}`],
  ];
  return made("dl.facts", {}, pairs.map(([term, text]) => made("div", {}, made("dt", {}, term), made("dd", {}, text))));
}

function lengths(own) {
  if (own.lengths.length < 2) return null;
  const place = own.lengths.indexOf(own.n);
  const shown = made("output", {}, counted(own.n, "element"));
  const slider = made("input", {
    type: "range", id: "lengths", min: 0, max: own.lengths.length - 1, step: 1, value: place,
    oninput: () => { shown.textContent = counted(own.lengths[slider.value], "element"); },
    onchange: () => go(address({ length: own.lengths[slider.value], element: null })),
  });
  return made("div.lengths", {}, field("Number of elements", slider), shown);
}

function besideLink(output, beside) {
  const text = beside ? "Show this output alone" : `Show beside ${plain(output.other)}`;
  return made("p", {}, made("a", { href: address({ beside: beside ? null : "1" }) }, text));
}
