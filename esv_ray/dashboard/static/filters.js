// Which videos: the fields and tags above a list and above figures.

import { classField, className } from "./classes.js";
import { choice, field, made, plain } from "./dom.js";
import { address, go } from "./state.js";

const RANGES = {
  score: "Score", evidential: "Evidential", misled: "Misled", distracted: "Distracted", frames: "Frames",
};
const PARTED = ["supporting", "best", "worst", "over"]; // which may have several parts, all of which hold
export const FILTERS = [
  "q", "class", "explained", "label", "predicted", "outcome", "n", "status", "esvs", ...Object.keys(RANGES), "misleading", ...PARTED,
];
export const NO_PAGE = { after: null, before: null };
const WAIT_MS = 250; // after the last letter of a search
const TAGS = {
  explained: (value, output) => `class explained: ${className(output, Number(value))}`,
  esvs: () => "with ESVs",
  supporting: (value) => `supporting elements: ${spans(value)}`,
  best: (value) => `most supporting element: ${spans(value)}`,
  worst: (value) => `most distracting element: ${spans(value)}`,
  misleading: (value) => `most misleading element: ${spans(value)}`,
  over: (value) => plain(value).split(" ").map((pair) => `ESV of element ${pair.replace(",", " > element ")}`).join(", "),
};
let focused = null;

/** Return the filters of the address, as the server takes them. */
export function chosen(parameters) {
  return Object.fromEntries(FILTERS.map((name) => [name, parameters.get(name)]));
}

/** Return the filters of a mark together with those of the address, so that both hold. */
export function together(key, parameters) {
  return Object.fromEntries(Object.entries(key).map(([name, value]) => {
    const before = PARTED.includes(name) ? (parameters.get(name) ?? "").split(" ").filter(Boolean) : [];
    return [name, [...new Set([...before, String(value)])].join(" ")];
  }));
}

function spans(value) {
  return plain(value).replaceAll("..", "–").replaceAll(" ", " and ");
}

/** Change parameters; the control that did it keeps the focus while what is below it changes. */
export function change(changes, control) {
  focused = { id: control.id, at: control.type === "search" ? control.selectionStart : null };
  go(address({ ...NO_PAGE, ...changes }));
}

/** Focus the control again that changed something. */
export function restoreFocus() {
  const control = focused && document.getElementById(focused.id);
  if (control) {
    control.focus();
    if (focused.at !== null) control.setSelectionRange?.(focused.at, focused.at);
  }
  focused = null;
}

/** Return the fields. */
export function filterFields(output, parameters) {
  const of = (name) => parameters.get(name) ?? "";
  let timer;
  const search = made("input", {
    type: "search", id: "search", value: of("q"), placeholder: "part of an id", maxlength: 1000, autocomplete: "off", spellcheck: "false",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => change({ q: search.value }, search), WAIT_MS);
    },
  });
  const select = (label, name, options) => {
    const control = choice(options, of(name), (value) => change({ [name]: value }, control));
    return field(label, control);
  };
  const range = (name) => {
    const [first, last] = of(name).includes("..") ? of(name).split("..") : [of(name), of(name)];
    const ends = [["from", first], ["to", last]].map(([end, value]) => made("input", {
      type: "number", step: name === "frames" ? 1 : "any", min: name === "evidential" ? null : 0, value, id: `${name}-${end}`,
      onchange: (event) => event.target.reportValidity() && set(event.target),
    }));
    const set = (control) => {
      const [from, to] = ends.map((each) => each.value);
      change({ [name]: from || to ? `${from}..${to}` : "" }, control);
    };
    return [field(`${RANGES[name]} from`, ends[0]), field(`${RANGES[name]} to`, ends[1])];
  };
  const [usual, ...others] = Object.keys(RANGES);
  const outcomes = [["", "any"], ["right", "right"], ["wrong", "wrong"], ["unlabeled", "no label"]];
  const statuses = [["", "any"], ["ok", "ok"], ["skipped", "skipped"], ["failed", "failed"]];
  return made("form.filters", { role: "search", "aria-label": "Videos", onsubmit: (event) => event.preventDefault() },
    field("Search (/)", search),
    classFields(output, parameters),
    output.labeled ? select("Outcome", "outcome", outcomes) : null,
    output.lengths.length > 1
      ? select("Elements", "n", [["", "any"], ...output.lengths.map((n) => [String(n), String(n)])]) : null,
    select("Status", "status", statuses),
    range(usual),
    made("details.more", { open: others.some((name) => of(name)) }, made("summary", {}, "More filters"),
      made("div.filters", {}, others.flatMap(range))),
  );
}

/** The class, and whether it is that of the label, of the prediction, or of either. */
function classFields(output, parameters) {
  const names = ["label", "predicted"].filter((name) => parameters.has(name));
  if (names.length === 2) return []; // a confusion: its tags remove it
  let role = names[0] ?? "class";
  const set = (name, value, control) => change({ class: null, label: null, predicted: null, [name]: value }, control);
  const { input, list } = classField(output, parameters.get(role), (value) => set(role, value, input));
  const roles = choice([["class", "label or predicted"], ["label", "label"], ["predicted", "predicted"]], role, (value) => {
    if (parameters.has(role)) set(value, parameters.get(role), roles);
    else role = value;
  });
  return [field("Class", input), list, field("Class is the", roles)];
}

/** Return the filters that figures set, each with a way to remove it, and a way to remove all. */
export function filterTags(output, parameters) {
  const confused = parameters.has("label") && parameters.has("predicted") ? ["label", "predicted"] : [];
  const set = [...confused, ...Object.keys(TAGS).filter((name) => parameters.has(name))];
  if (!FILTERS.some((name) => parameters.get(name))) return null;
  const told = (name) => (TAGS[name] ?? ((value) => `${name}: ${className(output, Number(value))}`))(parameters.get(name), output);
  const none = Object.fromEntries(FILTERS.map((name) => [name, null]));
  return made("p.tags", {},
    set.map((name) => made("a.tag", { href: address({ ...NO_PAGE, [name]: null }) }, `${told(name)} ×`)),
    made("a", { href: address({ ...NO_PAGE, ...none }) }, "Remove all filters"));
}
