// The ESVs of one video: bars, waterfalls, a contrast of two classes, and their values.

import { className } from "./classes.js";
import { choice, drawing, field, made, number, plain, shape } from "./dom.js";
import { address, go } from "./state.js";
import { valued } from "./steps.js";

/** Say whether the predicted class is the label. */
export function verdict(own) {
  if (own.status !== "ok" || own.label === null) return own.status === "ok" ? made("p.verdict", {}, "No label") : null;
  const right = own.label === own.predicted;
  return made(`p.verdict.${right ? "good" : "bad"}`, {}, right ? "✓ Correct" : "✗ Misclassified");
}

function caption(output, each, own, removable) {
  const role = each.roles.join(" and ") || "class";
  const left = own.classes.map((one) => one.class).filter((id) => id !== each.class);
  const remove = removable && left.length
    ? made("button.remove", {
        type: "button", "aria-label": `Remove ${className(output, each.class)}`,
        onclick: () => go(address({ classes: left.join(",") })),
      }, "×")
    : null;
  return made("figcaption", {}, `${role[0].toUpperCase()}${role.slice(1)} `, made("b", {}, made("bdi", {}, className(output, each.class))), " ", remove,
    made("small", {}, each.equation.replaceAll(" - ", " − ")));
}

export function panels(output, own, steps) {
  const bars = own.classes.map((each) =>
    made("figure.panel.across", {}, caption(output, each, own, true), steps.follow(drawing(each.bars))));
  const falls = own.classes.map((each) => made(own.classes.length > 1 ? "figure.panel" : "figure.panel.across", {},
    made("figcaption", {}, made("b", {}, className(output, each.class)), ", in time order",
      made("small", {}, `from prior ${number(each.prior)} to score ${number(each.score)}`)),
    steps.follow(drawing(each.waterfall))));
  return made("section.video", { "aria-label": "ESVs" }, key(own), made("div.panels.two", {}, bars, falls));
}

export function sides(output, own, steps) {
  const column = (name, shown, removable) => made("div", {},
    made("p.side", {}, name), verdict(shown),
    shown.status === "ok"
      ? shown.classes.map((each) => made("figure.panel", {}, caption(output, each, shown, removable),
          shown.n === own.n ? steps.follow(drawing(each.bars)) : drawing(each.bars)))
      : made("p.empty", {}, plain(shown.reason ?? shown.status)));
  return made("section.video", { "aria-label": "ESVs of two outputs" }, key(own),
    made("div.panels.two", {}, column(`A, ${plain(output.output)}`, own, true), column(`B, ${plain(output.other)}`, own.other, false)));
}

function key(own) {
  const mark = (kind, x, width) => {
    const svg = shape("svg", { "aria-hidden": "true" }, shape("rect", { class: kind, x, width, height: 12 }));
    return svg;
  };
  const errors = own.errors || own.other?.errors;
  return made("p.key", {},
    made("span", {}, mark("s", 0, 14), "supports the class"), made("span", {}, mark("d", 0, 14), "distracts from it"),
    errors ? made("span", {}, mark("e", 4, 6), errors) : null, made("span", {}, "numbers below the bars: frames"));
}

export function contrast(output, own, steps) {
  if (own.kept.length < 2) return null;
  const ranked = own.heat.classes.concat(own.kept.filter((id) => !own.heat.classes.includes(id)));
  const options = ranked.map((id) => [String(id), className(output, id)]);
  const usual = own.label !== own.predicted && own.kept.includes(own.label) && own.kept.includes(own.predicted)
    ? [own.label, own.predicted] : ranked.slice(0, 2);
  const [first, second] = own.contrast ? [own.contrast.first, own.contrast.second] : usual;
  const a = choice(options, String(first), () => move());
  const b = choice(options, String(second), () => move());
  const move = () => go(address({ contrast: `${a.value},${b.value}` }));
  const body = own.contrast
    ? [made("figure.panel.across", {},
        made("figcaption", {}, "Above 0: evidence for the first class; below 0: for the second.", made("small", {}, own.contrast.note)),
        steps.follow(drawing(own.contrast.bars))),
      made("p", {}, made("a", { href: address({ contrast: null }) }, "Remove the contrast"))]
    : [made("p", {}, made("button", { type: "button", onclick: move }, "Show the contrast"))];
  return made("section.contrast", { "aria-labelledby": "contrast-h" }, made("h2", { id: "contrast-h" }, "Contrast of two classes"),
    made("div.filters", {}, field("ESVs for", a), field("minus those for", b)), body);
}

export function values(output, own) {
  const heads = ["element", "frame", ...own.classes.map((each) => className(output, each.class)), ...(own.contrast ? ["difference"] : [])];
  const columns = [...own.classes, ...(own.contrast ? [own.contrast] : [])];
  const rows = own.frames.map((frame, place) =>
    made("tr", {}, [String(place), String(frame), ...columns.map((each) => valued(each, place))].map((text) => made("td.n", {}, text))));
  return made("details", {}, made("summary", {}, "Values"),
    made("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of values" }, made("table.data", {},
      made("thead", {}, made("tr", {}, heads.map((text) => made("th.n", { scope: "col" }, text)))), made("tbody", {}, rows))));
}
