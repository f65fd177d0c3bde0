// Marks of figures that stand for videos: each is a link. Tab leads to one link of a figure, arrow keys to the others.

import { shape } from "./dom.js";

const WAYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const ASIDE = 0.2; // weight of the distance across the way of an arrow key
const LEAST = 1; // pixels

/**
 * Put the marks of a drawing that have keys into links; return whether there are any.
 * @param {SVGElement} svg a drawing, whose marks have `data-key`, the conditions of their videos.
 * @param {function(Object): string} addressOf returns the address of the videos with some conditions.
 */
export function linkMarks(svg, addressOf) {
  const known = new Set();
  for (const mark of svg.querySelectorAll("[data-key]")) {
    const { key, tip } = mark.dataset;
    const again = known.has(`${key} ${tip}`); // several marks of one row say the same
    known.add(`${key} ${tip}`);
    const name = again ? { "aria-hidden": "true" } : { "aria-label": tip.replaceAll("; ", ", ") };
    const link = shape("a", { href: addressOf(Object.fromEntries(new URLSearchParams(key))), tabindex: known.size > 1 || again ? -1 : 0, ...name });
    mark.replaceWith(link);
    link.append(mark);
  }
  if (known.size) svg.querySelectorAll("text").forEach((text) => text.setAttribute("aria-hidden", "true"));
  return known.size > 0;
}

/** Let arrow keys lead from the link of a mark to the next one in their direction; Home and End to the first and last. */
export function steps(box) {
  box.addEventListener("keydown", (event) => {
    const from = event.target.closest("svg a");
    if (!from || event.altKey || event.ctrlKey || event.metaKey) return;
    const links = Array.from(from.closest("svg").querySelectorAll("a:not([aria-hidden])"));
    const next = { Home: links.at(0), End: links.at(-1) }[event.key] ?? (event.key in WAYS ? nearest(from, links, WAYS[event.key]) : null);
    if (!next) return;
    event.preventDefault();
    from.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

/** Return the link that is nearest in a direction. Bars stand on one line, so lower left corners are compared. */
function nearest(from, links, [right, down]) {
  const corner = (link) => link.getBoundingClientRect();
  const start = corner(from);
  let best = null;
  let least = Infinity;
  for (const link of links) {
    const { left, bottom } = corner(link);
    const along = (left - start.left) * right + (bottom - start.bottom) * down;
    const across = Math.abs((left - start.left) * down) + Math.abs((bottom - start.bottom) * right);
    if (along > LEAST && along + ASIDE * across < least) [best, least] = [link, along + ASIDE * across];
  }
  return best;
}
