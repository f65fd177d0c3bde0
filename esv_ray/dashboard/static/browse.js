// The list of videos: search, filters, order and pages.

import { className } from "./classes.js";
import { counted, made, number, plain } from "./dom.js";
import { change, chosen, filterFields, FILTERS, filterTags, NO_PAGE, restoreFocus } from "./filters.js";
import { ask } from "./server.js";
import { address } from "./state.js";

const PAGING = ["order", "descending", "after", "before"];
const COLUMNS = [
  { name: "id", title: "Video", first: "" },
  { title: "Label", of: (row, output) => className(output, row.label) },
  { title: "Predicted", of: (row, output) => className(output, row.predicted) },
  { title: "Outcome", of: (row) => outcome(row) },
  { name: "score", title: "Score", first: "1", of: (row) => number(row.score), hint: "probability of the class explained" },
  { name: "evidential", title: "Evidential", first: "1", of: (row) => number(row.evidential, 3, true), hint: "score minus prior" },
  { name: "misled", title: "Misled", first: "1", of: (row) => number(row.misled),
    hint: "largest ESV for the predicted class minus that for the label" },
  { name: "distracted", title: "Distracted", first: "1", of: (row) => number(row.distracted), hint: "absolute sum of the ESVs below 0" },
  { name: "supporting", title: "Supporting", first: "1", of: (row) => row.supporting === null ? "–" : `${row.supporting} of ${row.n_elements}`,
    hint: "number of elements with an ESV above 0" },
  { name: "frames", title: "Frames", first: "1", of: (row) => String(row.n_frames) },
];

function outcome(row) {
  if (row.status !== "ok") return made("span.bad", { title: plain(row.reason ?? "") }, row.status);
  if (row.label === null) return "no label";
  return row.correct ? made("span.good", {}, "✓ right") : made("span.bad", {}, "✗ wrong");
}

export async function browse(output, parameters, signal) {
  const paging = Object.fromEntries(PAGING.map((name) => [name, parameters.get(name)]));
  const page = await ask("videos", { ...chosen(parameters), ...paging }, signal);
  const table = page.rows.length ? listOf(output, page.rows, parameters) : empty(output, parameters);
  const update = made("button.update", { type: "button", hidden: true, onclick: () => dispatchEvent(new Event("moved")) });
  addEventListener("grown", (event) => {
    update.hidden = false;
    update.textContent = `${counted(event.detail.progress.units, "unit")} indexed: update the list`;
  }, { signal });
  return {
    title: `Videos: ${plain(output.output)}`,
    content: [
      made("h1", {}, "Videos"),
      filterFields(output, parameters),
      filterTags(output, parameters),
      made("p.count", { role: "status" }, counted(page.total, "video"), update),
      table,
      pages(page),
    ],
    ready: restoreFocus,
  };
}

function listOf(output, rows, parameters) {
  const order = parameters.get("order") ?? "id";
  const descending = parameters.get("descending") === "1";
  const heads = COLUMNS.map(({ name, title, first, hint }) => {
    if (!name) return made("th", { scope: "col" }, title);
    const here = name === order;
    const next = here ? (descending ? "" : "1") : first;
    const button = made("button", {
      type: "button", id: `order-${name}`, title: hint,
      onclick: () => change({ order: name === "id" ? "" : name, descending: next }, button),
    }, title);
    const sorted = here ? (descending ? "descending" : "ascending") : null;
    return made(name === "id" ? "th" : "th.n", { scope: "col", "aria-sort": sorted }, button);
  });
  const body = rows.map((row) => made("tr", {}, COLUMNS.map((column) => cell(column, row, output))));
  const table = made("table.videos", {}, made("caption.unseen", {}, "Videos"), made("thead", {}, made("tr", {}, heads)), made("tbody", {}, body));
  table.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = Array.from(table.querySelectorAll("tbody a"));
    const at = links.indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + step))].focus();
  });
  const several = output.lengths.length > 1;
  return made(several ? "div.scroll.list.several" : "div.scroll.list", {}, table);
}

function cell(column, row, output) {
  if (column.name === "id") {
    const length = output.lengths.length > 1 ? ` (${counted(row.n_elements, "element")})` : "";
    const link = made("a.id", { href: address({ video: row.video_id, length: row.n_elements }) }, made("bdi", {}, plain(row.video_id)));
    return made("th", { scope: "row" }, link, length);
  }
  return made(column.name ? "td.n" : "td", { "data-title": column.title }, column.of(row, output));
}

function empty(output, parameters) {
  if (!output.progress.done && !FILTERS.some((name) => parameters.get(name))) {
    return made("p.empty", {}, "No videos are indexed yet. They appear here as soon as they are.");
  }
  return made("p.empty", {}, "No videos match. Remove a filter, or change its value.");
}

function pages(page) {
  const link = (text, name, cursor) =>
    cursor ? made("a", { href: address({ ...NO_PAGE, [name]: cursor }), rel: name === "after" ? "next" : "prev" }, text) : null;
  return made("nav.pages", { "aria-label": "Pages" }, link("← Previous", "before", page.before), link("Next →", "after", page.after));
}
