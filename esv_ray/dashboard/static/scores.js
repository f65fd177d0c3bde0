// The classes of one video: their scores, and a map of elements by classes.

import { className } from "./classes.js";
import { made, number, shape } from "./dom.js";
import { address } from "./state.js";

const MOST_CLASSES = 8;

/** Elements by classes: the strength of a color is the size of an ESV. */
export function heatMap(output, own, steps) {
  const { classes, values, kept } = own.heat;
  if (classes.length < 2) return null;
  const most = Math.max(...values.flat().map((value) => Math.abs(value ?? 0))) || 1;
  const rows = classes.map((id, at) =>
    made("div.heat-row", {}, classLink(output, own, id), steps.follow(heatRow(values[at], most, `ESVs for ${className(output, id)}`))));
  const some = classes.length < kept ? ` Shown are the ${classes.length} of ${kept} kept classes with the largest scores.` : "";
  return made("section.heat-map", { "aria-labelledby": "heat-h" }, made("h2", { id: "heat-h" }, "Elements by classes"),
    made("p.reading", {}, `The stronger the color, the larger the absolute ESV; the largest is ${number(most)}. Click a class to add it to the bars.${some}`),
    rows);
}

/** Return a drawing of values by element, whose colors are as strong as the largest absolute value, `most`. */
export function heatRow(values, most, alt) {
  const step = 100 / values.length;
  return shape("svg", { class: "plot heat", role: "img", "aria-label": alt, width: "100%", height: 18 },
    ...values.map((value, place) => shape("rect", {
      class: value > 0 ? "s" : "d", "fill-opacity": (Math.abs(value ?? 0) / most).toFixed(3), x: `${place * step}%`, width: `${step}%`, height: 18,
    })),
    shape("rect", { class: "at", height: 18 }));
}

/** A link that adds a class to the bars, or its name if it is there already. */
function classLink(output, own, id) {
  const name = className(output, id);
  const shown = own.classes.map((each) => each.class);
  if (shown.includes(id) || shown.length >= MOST_CLASSES) return made("span.class", {}, name);
  return made("a.class", { href: address({ classes: [...shown, id].join(",") }), title: "add to the bars" }, name);
}

export function topScores(output, own) {
  const rows = own.top.map((each) => {
    const bar = shape("svg", { class: "plot score", width: "100%", height: 14, "aria-hidden": "true" },
      shape("rect", { class: "s", width: `${100 * (each.score ?? 0)}%`, height: 14 }));
    const kept = own.kept.includes(each.class);
    return made("tr", {}, made("th", { scope: "row" }, kept ? classLink(output, own, each.class) : made("span.class", {}, className(output, each.class))),
      made("td.n", {}, number(each.score)), made("td.bar", {}, bar), made("td", {}, kept ? "" : "ESVs not kept"));
  });
  const missing = own.top.some((each) => !own.kept.includes(each.class));
  return made("section.top-scores", { "aria-labelledby": "top-h" }, made("h2", { id: "top-h" }, "Largest scores"),
    made("p.reading", {}, "Click a class to add it to the bars.",
      missing ? ` This output keeps the ESVs of these classes only: ${output.kept.join(", ")}. A job with --set classes=top:5 keeps those of the five classes with the largest scores.` : ""),
    made("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of scores" }, made("table", {}, made("tbody", {}, rows))));
}

