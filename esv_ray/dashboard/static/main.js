// The start: which page the address asks for.

import { browse } from "./browse.js";
import { made, plain } from "./dom.js";
import { figures } from "./figures.js";
import { ask } from "./server.js";
import { address, asked, followLinks, listAddress } from "./state.js";
import { video } from "./video.js";

const POLL_MS = 3000;
const SLOW_MS = 200; // faster answers need no sign that they are on their way
const main = document.querySelector("#main");
const notice = document.querySelector("#notice");
let output = null;
let current = new AbortController();

async function show() {
  current.abort();
  const mine = (current = new AbortController());
  const slow = setTimeout(() => main.setAttribute("aria-busy", "true"), SLOW_MS);
  try {
    output ??= await ask("output", {}, mine.signal);
    document.querySelector("#where").textContent = plain(output.output);
    tell();
    const parameters = asked();
    const view = parameters.has("video") ? video : parameters.get("view") === "figures" ? figures : browse;
    navigate(view === figures ? "figures" : view === browse ? "videos" : "");
    const page = await view(output, parameters, mine.signal);
    if (mine.signal.aborted) return;
    main.replaceChildren(...page.content.filter((part) => part !== null));
    document.title = page.title;
    page.ready?.();
  } catch (error) {
    if (error.name === "AbortError") return;
    main.replaceChildren(failure(error.message));
  } finally {
    clearTimeout(slow);
    if (mine === current) main.removeAttribute("aria-busy");
  }
}

function failure(text) {
  return made("div.failure", {}, made("h1", {}, "Cannot show this page"), made("p", {}, plain(text)),
    made("p", {}, made("a", { href: "/" }, "All videos")));
}

/** Show the ways to the list and to the figures of the videos that are chosen. */
function navigate(here) {
  const list = new URL(listAddress(), location.href).searchParams;
  const way = (name, text, changes) =>
    made("a", { href: address({ ...changes, after: null, before: null }, list), "aria-current": name === here ? "page" : null }, text);
  document.querySelector("#ways").replaceChildren(way("videos", "Videos", { view: null }), way("figures", "Figures", { view: "figures" }));
}

/** Say how much of the output is there. */
function tell() {
  const { units, committed, planned, fault, done } = output.progress;
  const parts = [];
  if (fault) parts.push(`Indexing stopped: ${plain(fault)}`);
  else if (units < committed) parts.push(`Indexing: ${units} of ${committed} units so far.`);
  if (committed < planned) parts.push(`The output is unfinished: ${committed} of ${planned} units are committed.`);
  if (!done) parts.push("Lists and counts include only the videos that are indexed so far.");
  notice.hidden = done && !fault;
  if (notice.textContent !== parts.join(" ")) notice.textContent = parts.join(" ");
}

/** Look how an output grows, while somebody looks at the page. */
async function watch() {
  if (output && !output.progress.done && !output.progress.fault && !document.hidden) {
    try {
      const before = output.progress.units;
      output = await ask("output");
      tell();
      if (output.progress.units !== before) dispatchEvent(new CustomEvent("grown", { detail: output }));
    } catch (error) {
      notice.hidden = false;
      notice.textContent = error.message;
    }
  }
  setTimeout(watch, POLL_MS);
}

addEventListener("moved", () => {
  show().then(() => scrollTo(0, 0));
});
addEventListener("keydown", (event) => {
  const field = document.querySelector("input[type=search]");
  if (event.key !== "/" || !field || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  field.focus();
});
followLinks();
show();
setTimeout(watch, POLL_MS);
