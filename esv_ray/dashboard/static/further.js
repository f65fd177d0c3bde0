// Further tables of one video: interactions of pairs, marginals by length, and scores while elements are taken away.

import { className } from "./classes.js";
import { counted, made, number, plain, shape } from "./dom.js";
import { heatRow } from "./scores.js";
import { ask } from "./server.js";

const CELL = 24; // pixels of a row of a grid, at least
const MOST_HEIGHT = 320;
const STRONGEST = 5;
const CURVE_HEIGHT = 140;
const ORDERS = {
  descending: "largest ESV first", ascending: "smallest ESV first", random: "random order", center: "from the center outward",
  edges: "from the edges inward", uniform: "spread evenly",
};
const TABLES = {
  interactions: { title: "Interactions of pairs", hint: "which need --set estimator.kind=exact and at most about 16 frames", draw: interactions },
  marginals: { title: "Marginals by length", hint: "", draw: marginals },
  discards: { title: "Elements taken away", hint: "", draw: discards },
  methods: { title: "Methods", hint: "", draw: methods },
};

/** Return a section per further table, and how to make those that are missing. */
export function further(output, own, steps) {
  const names = Object.keys(TABLES);
  const there = names.filter((name) => output.tables[name]).map((name) => {
    const body = made("div", {}, made("p.waiting", {}, "Loading…"));
    const box = made("section.further", { "aria-labelledby": `${name}-h` }, made("h2", { id: `${name}-h` }, TABLES[name].title), body);
    return { name, body, box };
  });
  const lacking = names.some((name) => !output.tables[name]) ? missing(names.filter((name) => !output.tables[name])) : null;

  function begin(signal) {
    for (const { name, body } of there) {
      const parameters = { name, video: own.video_id, n: own.n, classes: own.classes.map((each) => each.class).join(",") };
      ask("further", parameters, signal).then(
        (found) => body.replaceChildren(...TABLES[name].draw(output, own, steps, found).filter((part) => part !== null)),
        (error) => error.name === "AbortError" || body.replaceChildren(made("p.empty", {}, plain(error.message))),
      );
    }
  }

  return { parts: [...there.map((each) => each.box), lacking], begin };
}

/** Say how to make what an output lacks. */
function missing(names) {
  const tables = names.filter((name) => name !== "methods");
  const hints = tables.map((name) => `${name}${TABLES[name].hint ? ` (${TABLES[name].hint})` : ""}`);
  return made("section.further", { "aria-labelledby": "lacking-h" }, made("h2", { id: "lacking-h" }, "Further tables"),
    tables.length ? made("p.reading", {}, `This output has no ${hints.join(", no ")}. To see them here, run the job into a new output with `,
      made("code", {}, `--set 'tables=[${tables.join(",")}]'`), ".") : null,
    names.includes("methods") ? made("p.reading", {}, "It has ESVs only. For values of other methods, run the job into a new output with, for example, ",
      made("code", {}, "--set 'methods=[esv,occlusion,integrated_gradients]'"), ".") : null);
}

/** Return a drawing of rows of values by elements, whose colors are as strong as the largest value of `most`. */
function grid(own, rows, labels, most, alt, tell) {
  const height = Math.max(3, Math.min(CELL, Math.floor(MOST_HEIGHT / rows.length)));
  const every = Math.ceil(12 / height);
  const step = 100 / own.n;
  const cells = rows.flatMap((values, row) => values.map((value, place) => (value === null ? null : shape("rect", {
    class: value > 0 ? "s" : "d", "fill-opacity": (Math.abs(value) / most).toFixed(3), x: `${place * step}%`, y: row * height, width: `${step}%`, height,
  }))).filter((cell) => cell !== null));
  const texts = labels.map((text, row) => (row % every ? null : shape("text", { class: "t", x: -6, y: row * height + height / 2 + 4 }, text)));
  const total = rows.length * height;
  const svg = shape("svg", { class: "plot grid", role: "img", "aria-label": alt, width: "100%", height: total },
    ...cells, ...texts.filter((text) => text !== null), shape("rect", { class: "at", height: total }));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = (position, size, count) => Math.max(0, Math.min(count - 1, Math.floor((position / size) * count)));
    tell(at(event.clientY - box.top, box.height, rows.length), at(event.clientX - box.left, box.width, own.n));
  });
  return svg;
}

function largest(values) {
  return values.flat(2).reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0) || 1;
}

function none() {
  return made("p.empty", {}, "The table has no rows for these classes of this video.");
}

function interactions(output, own, steps, { classes }) {
  if (!classes.length) return [none()];
  const most = largest(classes.map((each) => each.values));
  const panels = classes.map(({ class: id, values }) => {
    const rows = Array.from({ length: own.n }, () => Array(own.n).fill(null));
    const pairs = [];
    let next = 0;
    for (let i = 0; i < own.n; i += 1) {
      for (let j = i + 1; j < own.n; j += 1) {
        const value = values[next++];
        rows[i][j] = rows[j][i] = value;
        pairs.push([i, j, value]);
      }
    }
    const strongest = [...pairs].sort((a, b) => Math.abs(b[2] ?? 0) - Math.abs(a[2] ?? 0)).slice(0, STRONGEST);
    const said = (i, j, value) => `${i} and ${j}: ${number(value, 4, true)}`;
    const shown = made("p.reading", {}, `Strongest: ${strongest.map((pair) => said(...pair)).join("; ")}`);
    const tell = (i, j) => { if (i !== j) shown.textContent = `Elements ${said(i, j, rows[i][j])}`; };
    const labels = rows.map((_, place) => String(place));
    return made("figure.panel", {}, made("figcaption", {}, made("b", {}, made("bdi", {}, className(output, id)))),
      steps.follow(grid(own, rows, labels, most, `Interactions of pairs of elements for ${className(output, id)}`, tell)), shown);
  });
  return [
    made("p.reading", {}, `Shapley interaction index of two elements. Above 0: together they say more than apart; below 0: they say the same. The strongest color is ${number(most)}.`),
    made(panels.length > 1 ? "div.panels.two" : "div.panels", {}, panels),
  ];
}

function marginals(output, own, steps, { classes }) {
  if (!classes.length) return [none()];
  const most = largest(classes.map((each) => each.values));
  const panels = classes.map(({ class: id, values }) => {
    const rows = Array.from({ length: own.n }, (_, scale) => values.map((of) => of[scale]));
    const shown = made("p.reading", {}, "Top row: the element alone; bottom row: added to all others.");
    const tell = (scale, element) => {
      shown.textContent = `Element ${element} as one of ${scale + 1}: ${number(rows[scale][element], 4, true)}`;
    };
    const labels = rows.map((_, scale) => String(scale + 1));
    return made("figure.panel", {}, made("figcaption", {}, made("b", {}, made("bdi", {}, className(output, id)))),
      steps.follow(grid(own, rows, labels, most, `Marginals of elements by length for ${className(output, id)}`, tell)), shown);
  });
  return [
    made("p.reading", {}, `What an element adds to subsequences, by their length with it (numbers on the left). Their mean over lengths is the ESV. The strongest color is ${number(most)}.`),
    made(panels.length > 1 ? "div.panels.two" : "div.panels", {}, panels),
  ];
}

function methods(output, own, steps, { classes }) {
  if (!classes.length) return [none()];
  const panels = classes.map(({ class: id, methods: found }) => made("figure.panel", {},
    made("figcaption", {}, made("b", {}, made("bdi", {}, className(output, id)))),
    found.map(({ method, values }) => {
      const most = largest(values);
      const size = values.some((value) => value) ? `up to ${most < 0.001 ? most.toExponential(1) : number(most)}` : "all 0";
      const name = method === "esv" ? "ESV" : method.replaceAll("_", " ");
      return made("div.heat-row", {}, made("span.class", {}, `${name}, ${size}`),
        steps.follow(heatRow(values, most, `${name} of elements for ${className(output, id)}`)));
    })));
  return [
    made("p.reading", {}, "Values of other methods beside the ESVs. Their sizes cannot be compared: the strongest color of each row is its own largest absolute value."),
    made(panels.length > 1 ? "div.panels.two" : "div.panels", {}, panels),
  ];
}

function discards(output, own, steps, { class: id, curves, enough }) {
  const orders = Object.keys(ORDERS);
  const shown = curves.filter((curve) => curve.method === "esv").sort((a, b) => orders.indexOf(a.order) - orders.indexOf(b.order));
  if (!shown.length) return [made("p.empty", {}, "The table has no rows of this video.")];
  const name = className(output, id);
  return [
    enoughText(output, own, id, enough, steps),
    made("p.reading", {}, `Probability of ${name} by the number of elements that are taken away; after all ${own.n} it is the prior.`),
    made("p.key", {}, shown.map((curve, at) => made("span", {},
      shape("svg", { "aria-hidden": "true" }, shape("line", { class: `c${at % 6}`, x2: 14, y1: 6, y2: 6 })), ORDERS[curve.order] ?? curve.order))),
    curvesOf(own, shown, name),
    made("details", {}, made("summary", {}, "Values of the curves"), curveTable(own, curves)),
  ];
}

/** Say how few elements keep the prediction, and which; each is a way to look at it. */
function enoughText(output, own, id, enough, steps) {
  if (enough === null) return null;
  const name = className(output, id);
  const predicted = className(output, enough.predicted);
  const buttons = (enough.elements ?? []).flatMap((element) =>
    [made("button.chip", { type: "button", onclick: () => steps.show(element) }, String(element)), " "]).slice(0, -1);
  const taken = own.n - enough.kept + 1;
  const rest = `the ${counted(taken, "element")} with the smallest ESVs for ${name} ${taken === 1 ? "is" : "are"} taken away`;
  const changed = enough.without === null ? "" : className(output, enough.without);
  let said = `However many of the elements with the smallest ESVs for ${name} are taken away, the predicted class stays ${predicted}, to the last one: `;
  if (enough.predicted === id) {
    said = `The ${counted(enough.kept, "element")} with the largest ESVs ${enough.kept === 1 ? "is" : "are"} enough for the predicted class ${predicted}${changed && `; with one fewer it is ${changed}`}: `;
  } else if (changed) {
    said = `Once ${rest}, the predicted class is ${changed} and no longer ${predicted}. The elements that are left just before: `;
  }
  const best = enough.best === null ? "" : `Some subsequence of ${counted(enough.best, "element")} reaches ${100 * enough.share} % of the probability of ${name}; none of fewer does.`;
  return made("p.says", {}, said, buttons.length ? buttons : `${enough.kept} of ${own.n}`, ". ", best);
}

function curvesOf(own, curves, name) {
  const top = Math.max(...curves.flatMap((curve) => curve.scores.map((score) => score ?? 0))) || 1;
  const y = (value) => CURVE_HEIGHT * (1 - value / top);
  const lines = curves.map((curve, at) => shape("polyline", {
    class: `c${at % 6}`, points: curve.scores.map((score, step) => `${(100 * step) / own.n},${y(score ?? 0).toFixed(1)}`).join(" "),
  }));
  const stretched = shape("svg", { viewBox: `0 0 100 ${CURVE_HEIGHT}`, preserveAspectRatio: "none", width: "100%", height: CURVE_HEIGHT, overflow: "visible" }, ...lines);
  const ticks = [0, top / 2, top].flatMap((value) => [
    shape("line", { class: "g", x2: "100%", y1: y(value), y2: y(value) }), shape("text", { class: "t", x: -6, y: y(value) + 4 }, number(value, 2)),
  ]);
  const every = Math.ceil(own.n / 12);
  const numbers = Array.from({ length: own.n + 1 }, (_, step) => step).filter((step) => step % every === 0)
    .map((step) => shape("text", { class: "f", x: `${(100 * step) / own.n}%`, y: CURVE_HEIGHT + 15 }, String(step)));
  return shape("svg", { class: "plot curves", role: "img", "aria-label": `Probability of ${name} by the number of elements taken away`, width: "100%", height: CURVE_HEIGHT + 20 },
    ...ticks, stretched, ...numbers);
}

function curveTable(own, curves) {
  const heads = ["taken away", ...curves.map((curve) => (curve.method === "esv" ? curve.order : `${curve.method}, ${curve.order}`))];
  const rows = Array.from({ length: own.n + 1 }, (_, step) =>
    made("tr", {}, [String(step), ...curves.map((curve) => number(curve.scores[step], 4))].map((text) => made("td.n", {}, text))));
  return made("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of the curves" }, made("table.data", {},
    made("thead", {}, made("tr", {}, heads.map((text) => made("th.n", { scope: "col" }, text)))), made("tbody", {}, rows)));
}
