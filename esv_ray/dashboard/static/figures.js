// The data set: a confusion matrix and the figures of esv analyze, for the videos that the filters choose.

import { className } from "./classes.js";
import { counted, drawing, made, number, plain } from "./dom.js";
import { chosen, filterFields, filterTags, restoreFocus, together } from "./filters.js";
import { linkMarks, steps } from "./marks.js";
import { ask } from "./server.js";
import { address, asked, videosAddress } from "./state.js";

const sheet = new CSSStyleSheet();
const colors = new Map();

export async function figures(output, parameters, signal) {
  const asked = chosen(parameters);
  const matrix = output.labeled ? await ask("matrix", asked, signal) : null;
  const sections = output.figures.map((name) =>
    made("section.facet", { id: name, "aria-busy": "true" }, made("p.waiting", {}, "Drawing…")));
  return {
    title: `Figures: ${plain(output.output)}`,
    content: [
      made("h1", {}, "Figures"),
      filterFields(output, parameters),
      filterTags(output, parameters),
      matrix && matrix.videos ? matrixSection(output, matrix) : null,
      ...sections,
      made("p.reading", {}, "More figures, such as those of marginals and discards: esv report OUTPUT."),
    ],
    ready: () => {
      restoreFocus();
      draw(output, asked, sections, signal);
    },
  };
}

/** Ask for one figure after the other, so that the first are there soon. */
async function draw(output, asked, sections, signal) {
  for (const section of sections) {
    let parts;
    try {
      parts = figure(output, await ask("figure", { ...asked, name: section.id }, signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      parts = [made("h2", {}, section.id[0].toUpperCase() + section.id.slice(1)), made("p.empty", {}, plain(error.message))];
    }
    section.removeAttribute("aria-busy");
    section.replaceChildren(...parts);
  }
}

function figure(output, told) {
  const heading = made("h2", {}, told.title);
  if (!told.videos) return [heading, made("p.empty", {}, "No videos with ESVs match. Remove a filter, or change its value.")];
  const of = `${counted(told.videos, "video")} of ${counted(told.n, "element")}.`;
  const says = told.sentences.map((sentence) => made("p.says", {}, plain(sentence)));
  const parts = [heading, made("p.reading", {}, `${of}${output.lengths.length > 1 ? " Choose another number of elements above." : ""}`), ...says];
  parts.push(made("p.reading", {}, made("b", {}, "How to read it."), ` ${told.reading}`,
    told.figure?.wide.includes("data-key") ? " Click a mark to see what is behind it; arrow keys lead from one to the next." : ""));
  if (told.figure) parts.push(chart(told));
  parts.push(table(output, told));
  return parts;
}

function chart(told) {
  for (const [name, light, dark] of told.figure.colors) colors.set(name, [light, dark]);
  const declared = (side) => Array.from(colors, ([name, pair]) => `--${name}:${pair[side]}`).join(";");
  sheet.replaceSync(`:root{${declared(0)}}@media screen and (prefers-color-scheme:dark){:root{${declared(1)}}}`);
  if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
  const drawn = ["wide", "narrow"].map((kind) => {
    const svg = drawing(told.figure[kind]);
    svg.setAttribute("aria-label", told.figure.alt);
    svg.setAttribute("role", linkMarks(svg, (key) => behind(told, key)) ? "group" : "img");
    return made(`div.${kind}`, {}, svg);
  });
  const box = made("div.drawn", {}, drawn);
  steps(box);
  tooltips(box);
  return made("figure.chart", {}, made("figcaption", {}, made("b", {}, `${told.figure.title}.`), ` ${told.figure.notes}`), box);
}

/** Return the address of the videos of a mark or a row, which the filters of the page choose too; of one video, its page. */
function behind(told, key) {
  if (key.video !== undefined) return address({ video: key.video, length: key.n, element: key.element });
  return videosAddress({ n: told.n, ...together(key, asked()) });
}

/** What a mark shows, beside the pointer, or beside the mark that the keyboard is at. */
function tooltips(box) {
  const tip = made("div.tip", { hidden: true, "aria-hidden": "true" });
  box.append(tip);
  const show = (mark, x, y) => {
    tip.hidden = !mark;
    if (!mark) return;
    tip.replaceChildren(...mark.dataset.tip.split("; ").map((line) => made("div", {}, line)));
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(room, x + 14))}px`;
    tip.style.top = `${y + 18}px`;
  };
  for (const end of ["pointerleave", "focusout"]) box.addEventListener(end, () => show(null));
  box.addEventListener("pointermove", (event) => show(event.target.closest("[data-tip]"), event.clientX, event.clientY));
  box.addEventListener("focusin", (event) => {
    const mark = event.target.querySelector("[data-tip]");
    const place = mark?.getBoundingClientRect();
    if (place && event.target.matches(":focus-visible")) show(mark, place.right - 14, place.bottom - 18);
  });
}

function table(output, told) {
  const shown = told.rows.length === told.all_rows ? counted(told.all_rows, "row") : `first ${told.rows.length} of ${counted(told.all_rows, "row")}`;
  const cell = (value) => (typeof value === "number" && !Number.isInteger(value) ? number(value, 4) : value === null ? "–" : plain(value));
  const rows = told.rows.map((row, at) => {
    const link = told.links[at] && made("a", { href: behind(told, told.links[at]) }, "videos");
    return made("tr", {}, row.map((value) => made("td", {}, cell(value))), made("td", {}, link));
  });
  return made("details", {}, made("summary", {}, `Table, ${shown}`),
    made("div.scroll", { tabindex: 0, role: "region", "aria-label": `${told.title}: table` }, made("table.data", {},
      made("thead", {}, made("tr", {}, told.columns.map((name) => made("th", { scope: "col" }, name.replaceAll("_", " "))), made("th", { scope: "col" }, "videos"))),
      made("tbody", {}, rows))));
}

function matrixSection(output, matrix) {
  const most = Math.max(1, ...matrix.cells.flatMap((row, at) => row.filter((_, other) => other !== at)));
  const heads = matrix.classes.map((id) => made("th", { scope: "col", title: className(output, id) }, made("span", {}, className(output, id))));
  const rows = matrix.cells.map((row, at) => made("tr", {},
    made("th", { scope: "row", title: className(output, matrix.classes[at]) }, className(output, matrix.classes[at])),
    row.map((count, other) => {
      const link = count && made("a", {
        href: videosAddress({ n: matrix.n, label: matrix.classes[at], predicted: matrix.classes[other], class: null }),
        "aria-label": `${counted(count, "video")} of ${className(output, matrix.classes[at])} predicted as ${className(output, matrix.classes[other])}`,
      }, String(count));
      const cell = made(at === other ? "td.right" : "td", {}, link || "");
      cell.style.setProperty("--share", count ? `${(8 + 42 * Math.min(1, count / most)).toFixed(0)}%` : "0%");
      return cell;
    })));
  const some = matrix.all_classes > matrix.classes.length ? ` Shown are the ${matrix.classes.length} of ${matrix.all_classes} classes that are confused most often.` : "";
  return made("section.facet", { "aria-labelledby": "matrix-h" }, made("h2", { id: "matrix-h" }, "Labels and predictions"),
    made("p.reading", {}, `${counted(matrix.videos, "video")} of ${counted(matrix.n, "element")}. Rows: labels; columns: predicted classes. Click a number to see its videos.${some}`),
    made("div.scroll", { tabindex: 0, role: "region", "aria-label": "Matrix of labels and predictions" },
      made("table.matrix", {}, made("thead", {}, made("tr", {}, made("td"), heads)), made("tbody", {}, rows))));
}
