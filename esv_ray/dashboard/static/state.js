// What is shown is in the address: a link reproduces it, and back and forward work.

const OF_VIDEO = ["video", "length", "classes", "contrast", "element", "stride", "beside"];

/** Return the parameters of the address. */
export function asked() {
  return new URLSearchParams(location.search);
}

/** Return the address with some parameters changed; null and "" remove one. */
export function address(changes, from = asked()) {
  const next = new URLSearchParams(from);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") next.delete(name);
    else next.set(name, value);
  }
  const text = next.toString();
  return text ? `/?${text}` : "/";
}

/** Return the address of the videos with these filters and of no others but those of the address. */
export function videosAddress(filters) {
  const page = { view: null, order: null, descending: null, after: null, before: null };
  return address({ ...page, ...filters });
}

/** Return the address of the list that a video was chosen from. */
export function listAddress() {
  return address(Object.fromEntries(OF_VIDEO.map((name) => [name, null])));
}

/** Go to an address, as a new entry of the history. */
export function go(url) {
  if (url === location.pathname + location.search) return;
  history.pushState(null, "", url);
  dispatchEvent(new Event("moved"));
}

/** Change the address in place: what is stepped through would fill the history. */
export function note(changes) {
  history.replaceState(null, "", address(changes));
}

/** Let links within the dashboard change the address without loading the page again. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href^='/']") : null;
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  addEventListener("popstate", () => dispatchEvent(new Event("moved")));
}
