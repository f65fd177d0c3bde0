// One video: its ESVs for some classes, their contrast, the way from prior to score, and the frames in step.

import { className } from "./classes.js";
import { choice, counted, drawing, field, made, number, plain, shape } from "./dom.js";
import { ask, frameAddress } from "./server.js";
import { address, go, listAddress, note } from "./state.js";

const MOST_CLASSES = 8;
const MOST_PICTURES = 64; // of a long sequence, those nearest to the element that is looked at

export async function video(output, parameters, signal) {
  const chosen = {
    video: parameters.get("video"), n: parameters.get("length"), classes: parameters.get("classes"),
    contrast: parameters.get("contrast"), beside: parameters.get("beside"),
  };
  const own = await ask("video", chosen, signal);
  const title = `${plain(own.video_id)}: ${plain(output.output)}`;
  const heading = [
    made("p.back", {}, made("a", { href: listAddress() }, "← Videos")),
    made("header.of-video", {}, made("h1", {}, made("bdi", {}, plain(own.video_id))), verdict(own)),
  ];
  if (own.status !== "ok") return { title, content: [...heading, withoutEsvs(own)] };
  const steps = new Steps(output, own);
  const content = [
    ...heading,
    facts(output, own),
    lengths(own),
    steps.controls(),
    own.other ? sides(output, own, steps) : panels(output, own, steps),
    output.other === null ? null : besideLink(output, Boolean(own.other)),
    contrast(output, own, steps),
    heatMap(output, own, steps),
    topScores(output, own),
    values(output, own),
  ];
  return { title, content, ready: () => steps.begin(parameters.get("element"), signal) };
}

function withoutEsvs(own) {
  return made("p.empty", {}, `This video has no ESVs. Status: ${own.status}. ${plain(own.reason ?? "")}`);
}

function verdict(own) {
  if (own.status !== "ok" || own.label === null) return own.status === "ok" ? made("p.verdict", {}, "No label") : null;
  const right = own.label === own.predicted;
  return made(`p.verdict.${right ? "good" : "bad"}`, {}, right ? "✓ Correct" : "✗ Misclassified");
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

/** The element that is looked at, in all drawings at once. */
class Steps {
  constructor(output, own) {
    this.own = own;
    this.output = output;
    this.place = null;
    this.plots = [];
    this.readout = made("p.readout", {}, "Point at an element, or press the arrow keys.");
    this.slider = made("input.scrub", {
      type: "range", min: 0, max: own.n - 1, step: 1, value: 0, "aria-label": "element", oninput: () => this.show(Number(this.slider.value)),
    });
    this.large = output.media ? made("img.frame", { alt: "" }) : null;
    this.missing = made("p.small", { hidden: true });
    this.film = output.media ? made("ol.film") : null;
  }

  controls() {
    return made("section.stepping-controls", { "aria-label": "Elements" },
      this.large ? made("figure.large", {}, this.large, this.missing) : null,
      made("div", {}, this.slider, this.readout),
      this.film,
      this.output.media ? null : made("p.small", {}, "For pictures of the frames: esv dashboard OUTPUT --media LOCATION, with pictures, videos, or a table that esv extract --thumbnails wrote."));
  }

  /** Let a drawing of the elements follow, and be pointed at. */
  follow(svg) {
    this.plots.push(svg);
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      return Math.max(0, Math.min(this.own.n - 1, Math.floor(((event.clientX - box.left) / box.width) * this.own.n)));
    };
    svg.addEventListener("pointermove", (event) => this.show(place(event)));
    svg.addEventListener("click", (event) => this.show(place(event)));
    return svg;
  }

  begin(element, signal) {
    if (this.large) {
      this.large.addEventListener("error", () => this.absent(true));
      this.large.addEventListener("load", () => this.absent(false));
      this.pictures(0);
    }
    const wanted = /^\d{1,9}$/.test(element ?? "") ? Number(element) : null;
    if (wanted !== null && wanted < this.own.n) this.show(wanted);
    else if (this.large) this.enlarge(0);
    addEventListener("keydown", (event) => this.key(event), { signal });
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target instanceof Element && event.target.closest("input, select, textarea, .scroll")) return;
    event.preventDefault();
    this.show(Math.max(0, Math.min(this.own.n - 1, (this.place ?? (step > 0 ? -1 : this.own.n)) + step)));
  }

  absent(absent) {
    this.large.hidden = absent;
    this.missing.hidden = !absent;
    this.missing.textContent = `No picture of frame ${this.own.frames[this.place ?? 0]}.`;
  }

  enlarge(place) {
    const next = frameAddress(this.own.video_id, this.own.n, place, "large");
    if (this.large.getAttribute("src") !== next) this.large.setAttribute("src", next);
    this.large.alt = `frame ${this.own.frames[place]}`;
  }

  /** Show the small pictures around an element. */
  pictures(place) {
    const first = Math.max(0, Math.min(place - MOST_PICTURES / 2, this.own.n - MOST_PICTURES));
    if (this.first === first) return;
    this.first = first;
    const shown = this.own.frames.slice(first, first + MOST_PICTURES);
    this.film.replaceChildren(...shown.map((frame, at) => {
      const image = made("img", { loading: "lazy", alt: `frame ${frame}`, src: frameAddress(this.own.video_id, this.own.n, first + at, "small") });
      image.addEventListener("error", () => image.remove());
      return made("li", { value: first + at, onclick: () => this.show(first + at) }, image);
    }));
  }

  show(place) {
    if (place === this.place) return;
    this.place = place;
    const { own } = this;
    this.slider.value = place;
    document.body.classList.add("stepping");
    for (const plot of this.plots) {
      const band = plot.querySelector(".at");
      band.setAttribute("x", `${(100 * place) / own.n}%`);
      band.setAttribute("width", `${100 / own.n}%`);
    }
    const told = [["element", String(place)], ["frame", String(own.frames[place])],
      ...own.classes.map((each) => [className(this.output, each.class), valued(each, place)])];
    if (own.contrast) told.push(["difference", valued(own.contrast, place)]);
    this.readout.replaceChildren(...told.flatMap(([name, text]) => [made("span", {}, `${name} `, made("b", {}, text)), " "]));
    this.slider.setAttribute("aria-valuetext", told.map((pair) => pair.join(" ")).join(", "));
    if (this.large) {
      this.pictures(place);
      this.enlarge(place);
      for (const item of this.film.children) item.classList.toggle("at", item.value === place);
    }
    note({ element: place });
  }
}

function valued(each, place) {
  const error = each.stderr ? ` ± ${number(each.stderr[place], 4)}` : "";
  return `${number(each.esv[place], 4, true)}${error}`;
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

function panels(output, own, steps) {
  const bars = own.classes.map((each) =>
    made("figure.panel.across", {}, caption(output, each, own, true), steps.follow(drawing(each.bars))));
  const falls = own.classes.map((each) => made("figure.panel", {},
    made("figcaption", {}, made("b", {}, className(output, each.class)), ", in time order",
      made("small", {}, `from prior ${number(each.prior)} to score ${number(each.score)}`)),
    steps.follow(drawing(each.waterfall))));
  return made("section.video", { "aria-label": "ESVs" }, key(own), made("div.panels.two", {}, bars, falls));
}

function sides(output, own, steps) {
  const column = (name, shown, removable) => made("div", {},
    made("p.side", {}, name), verdict(shown),
    shown.status === "ok"
      ? shown.classes.map((each) => made("figure.panel", {}, caption(output, each, shown, removable),
          shown.n === own.n ? steps.follow(drawing(each.bars)) : drawing(each.bars)))
      : made("p.empty", {}, plain(shown.reason ?? shown.status)));
  return made("section.video", { "aria-label": "ESVs of two outputs" }, key(own),
    made("div.panels.two", {}, column(`A, ${plain(output.output)}`, own, true), column(`B, ${plain(output.other)}`, own.other, false)));
}

function besideLink(output, beside) {
  const text = beside ? "Show this output alone" : `Show beside ${plain(output.other)}`;
  return made("p", {}, made("a", { href: address({ beside: beside ? null : "1" }) }, text));
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

function contrast(output, own, steps) {
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

/** Elements by classes: the strength of a color is the size of an ESV. */
function heatMap(output, own, steps) {
  const { classes, values, kept } = own.heat;
  if (classes.length < 2) return null;
  const most = Math.max(...values.flat().map((value) => Math.abs(value ?? 0))) || 1;
  const step = 100 / own.n;
  const rows = classes.map((id, at) => {
    const svg = shape("svg", { class: "plot heat", role: "img", "aria-label": `ESVs for ${className(output, id)}`, width: "100%", height: 18 },
      ...values[at].map((value, place) => shape("rect", {
        class: value > 0 ? "s" : "d", "fill-opacity": (Math.abs(value ?? 0) / most).toFixed(3), x: `${place * step}%`, width: `${step}%`, height: 18,
      })),
      shape("rect", { class: "at", height: 18 }));
    return made("div.heat-row", {}, classLink(output, own, id), steps.follow(svg));
  });
  const some = classes.length < kept ? ` Shown are the ${classes.length} of ${kept} kept classes with the largest scores.` : "";
  return made("section.heat-map", { "aria-labelledby": "heat-h" }, made("h2", { id: "heat-h" }, "Elements by classes"),
    made("p.reading", {}, `The stronger the color, the larger the absolute ESV; the largest is ${number(most)}. Click a class to add it to the bars.${some}`),
    rows);
}

/** A link that adds a class to the bars, or its name if it is there already. */
function classLink(output, own, id) {
  const name = className(output, id);
  const shown = own.classes.map((each) => each.class);
  if (shown.includes(id) || shown.length >= MOST_CLASSES) return made("span.class", {}, name);
  return made("a.class", { href: address({ classes: [...shown, id].join(",") }), title: "add to the bars" }, name);
}

function topScores(output, own) {
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

function values(output, own) {
  const heads = ["element", "frame", ...own.classes.map((each) => className(output, each.class)), ...(own.contrast ? ["difference"] : [])];
  const columns = [...own.classes, ...(own.contrast ? [own.contrast] : [])];
  const rows = own.frames.map((frame, place) =>
    made("tr", {}, [String(place), String(frame), ...columns.map((each) => valued(each, place))].map((text) => made("td.n", {}, text))));
  return made("details", {}, made("summary", {}, "Values"),
    made("div.scroll", { tabindex: 0, role: "region", "aria-label": "Table of values" }, made("table.data", {},
      made("thead", {}, made("tr", {}, heads.map((text) => made("th.n", { scope: "col" }, text)))), made("tbody", {}, rows))));
}
