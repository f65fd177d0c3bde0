// The videos before and after one, in the list that it was chosen from.

import { counted, made, plain } from "./dom.js";
import { chosen } from "./filters.js";
import { ask } from "./server.js";
import { address, go, listAddress } from "./state.js";

const OF_ONE = { classes: null, contrast: null, element: null };

/** Return the ways from a video to the list and to its neighbors there; they are filled in by `begin`. */
export function ways() {
  const places = made("span.adjacent");
  const box = made("nav.back", { "aria-label": "Videos of the list" }, made("a", { href: listAddress() }, "← Videos"), places);

  async function begin(own, parameters, signal) {
    const asked = { ...chosen(parameters), order: parameters.get("order"), descending: parameters.get("descending") };
    let found;
    try {
      found = await ask("adjacent", { ...asked, video: own.video_id, length: own.n }, signal);
    } catch (error) {
      if (error.name !== "AbortError") places.replaceChildren(plain(error.message));
      return;
    }
    const way = (name, text, hint) => {
      const to = found[name];
      return to === null
        ? made("span.none", { title: `No ${name} video in this list` }, text)
        : made("a", { id: name, href: address({ ...OF_ONE, video: to.video, length: to.length }), title: `${plain(to.video)} (${hint})` }, text);
    };
    places.replaceChildren(way("previous", ["‹ Previous ", made("kbd", {}, "[")], "key ["), way("next", ["Next ", made("kbd", {}, "]"), " ›"], "key ]"), made("span", {}, `of ${counted(found.total, "video")}`));
    addEventListener("keydown", (event) => {
      const name = { "[": "previous", "]": "next" }[event.key];
      if (!name || ((event.ctrlKey || event.altKey || event.metaKey) && !event.getModifierState("AltGraph"))) return;
      if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
      const link = places.querySelector(`#${name}`);
      if (link) go(link.getAttribute("href"));
    }, { signal });
  }

  return { box, begin };
}
