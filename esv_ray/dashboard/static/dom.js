// Elements, and texts of data: everything enters the page as text, never as markup.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Return a text of data whose control and direction characters are shown, not obeyed. */
export function plain(text) {
  return String(text).replace(HIDDEN, (each) => `\\u{${each.codePointAt(0).toString(16)}}`);
}

/**
 * Return an element.
 * @param {string} tag its name; with a class after a dot, such as `p.notice`.
 * @param {Object} attributes `on…` are listeners, booleans are properties of the markup; null and undefined are left out.
 * @param {...(Node|string|null|Array)} children strings become text.
 */
export function made(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return an element of SVG. */
export function shape(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Return a drawing of the server, whose texts it has escaped. A parsed document runs no scripts. */
export function drawing(svg) {
  return document.importNode(new DOMParser().parseFromString(svg, "text/html").querySelector("svg"), true);
}

/** Return a number with as many decimals, and a minus sign as wide as its digits; a dash for none. */
export function number(value, decimals = 3, signed = false) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(decimals);
  return text.startsWith("-") ? `−${text.slice(1)}` : signed ? `+${text}` : text;
}

/** Return a count with its noun. */
export function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Return a field with its label above it. */
export function field(label, control) {
  control.id ||= `field-${label.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return made("div.field", {}, made("label", { for: control.id }, label), control);
}

/** Return a choice of one value of several: [value, text] each. */
export function choice(options, value, onchange) {
  const select = made(
    "select",
    { onchange: () => onchange(select.value) },
    options.map(([each, text]) => made("option", { value: each, selected: each === value }, text)),
  );
  return select;
}
