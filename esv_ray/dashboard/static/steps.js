// The element that is looked at: in all drawings at once, and its picture.

import { className } from "./classes.js";
import { made, number, shape } from "./dom.js";
import { frameAddress } from "./server.js";
import { note } from "./state.js";

const MOST_PICTURES = 64; // of a long sequence, those nearest to the element that is looked at
const REST_MS = 150; // a browser allows some 200 changes of the address in 30 seconds

export class Steps {
  constructor(output, own) {
    this.own = own;
    this.output = output;
    this.place = null;
    this.plots = [];
    this.watchers = [];
    this.readout = made("p.readout", {}, "Point at an element, or press the arrow keys.");
    this.slider = made("input.scrub", {
      type: "range", min: 0, max: own.n - 1, step: 1, value: 0, "aria-label": "element", oninput: () => this.show(Number(this.slider.value)),
    });
    this.large = output.media ? made("img.frame", { alt: "" }) : null;
    this.missing = made("p.small", { hidden: true });
    this.film = output.media ? made("ol.film") : null;
  }

  /** Return the controls; `beside` is shown beside the large picture. */
  controls(beside) {
    return made("section.stepping-controls", { "aria-label": "Elements" },
      this.large ? made("div.screens", {}, made("figure.large", {}, this.large, this.missing), beside) : null,
      made("div", {}, this.slider, this.readout),
      this.film,
      this.output.media ? null : made("p.small", {}, "For pictures of the frames: esv dashboard OUTPUT --media LOCATION, with pictures, videos, or a table that esv extract --thumbnails wrote."));
  }

  /** Let a drawing of the elements follow, and be pointed at. */
  follow(svg) {
    this.plots.push(svg);
    svg.append(shape("line", { class: "now", y2: "100%" }));
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      return Math.max(0, Math.min(this.own.n - 1, Math.floor(((event.clientX - box.left) / box.width) * this.own.n)));
    };
    svg.addEventListener("pointermove", (event) => this.show(place(event)));
    svg.addEventListener("click", (event) => this.show(place(event)));
    return svg;
  }

  /** Call a function with every element that is looked at, and with whether a video plays. */
  watch(watcher) {
    this.watchers.push(watcher);
  }

  /** The element that most supports the first class. */
  get best() {
    const esv = this.own.classes[0].esv.map((value) => value ?? -Infinity);
    return esv.indexOf(Math.max(...esv));
  }

  begin(element, signal) {
    const wanted = /^\d{1,9}$/.test(element ?? "") && Number(element) < this.own.n ? Number(element) : null;
    if (this.large) {
      this.large.addEventListener("error", () => this.absent(true));
      this.large.addEventListener("load", () => this.absent(false));
      this.pictures(wanted ?? this.best);
    }
    if (wanted !== null) this.show(wanted);
    else {
      this.enlarge(this.best);
      for (const watcher of this.watchers) watcher(this.best, false);
    }
    addEventListener("keydown", (event) => this.key(event), { signal });
    signal.addEventListener("abort", () => clearTimeout(this.timer));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target instanceof Element && event.target.closest("input, select, textarea, video, .scroll")) return;
    event.preventDefault();
    this.show(Math.max(0, Math.min(this.own.n - 1, (this.place ?? (step > 0 ? -1 : this.own.n)) + step)));
  }

  absent(absent) {
    this.large.classList.remove("loading");
    this.large.hidden = absent;
    this.missing.hidden = !absent;
    this.missing.textContent = `No picture of ${this.shown ?? ""}.`;
  }

  /** Show the large picture of an element, or another picture near it. */
  enlarge(place, near = null) {
    if (!this.large) return;
    const next = near?.src ?? frameAddress({ video: this.own.video_id, n: this.own.n, element: place, size: "large" });
    this.shown = near?.text ?? `frame ${this.own.frames[place]}`;
    if (this.large.getAttribute("src") !== next) {
      this.large.classList.add("loading");
      this.large.setAttribute("src", next);
    }
    this.large.alt = this.shown;
  }

  /** Show the small pictures around an element. */
  pictures(place) {
    const first = Math.max(0, Math.min(place - MOST_PICTURES / 2, this.own.n - MOST_PICTURES));
    if (this.first === first) return;
    this.first = first;
    const shown = this.own.frames.slice(first, first + MOST_PICTURES);
    this.film.replaceChildren(...shown.map((frame, at) => {
      const src = frameAddress({ video: this.own.video_id, n: this.own.n, element: first + at, size: "small" });
      const image = made("img", { loading: "lazy", alt: `frame ${frame}`, src });
      image.addEventListener("error", () => image.remove());
      return made("li", { value: first + at, onclick: () => this.show(first + at) }, image);
    }));
  }

  /** Look at an element; while a video plays, its large picture stays as it is. */
  show(place, playing = false) {
    if (place === this.place && playing === this.playing) return;
    this.place = place;
    this.playing = playing;
    const { own } = this;
    this.slider.value = place;
    document.body.classList.add("stepping");
    document.body.classList.toggle("running", playing);
    for (const plot of this.plots) {
      for (const band of plot.querySelectorAll(".at")) {
        band.setAttribute("x", `${(100 * place) / own.n}%`);
        band.setAttribute("width", `${100 / own.n}%`);
      }
    }
    this.tell(place);
    if (this.large) {
      this.pictures(place);
      if (!playing) this.enlarge(place);
      for (const item of this.film.children) item.classList.toggle("at", item.value === place);
    }
    for (const watcher of this.watchers) watcher(place, playing);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => note({ element: place }), playing ? 10 * REST_MS : REST_MS);
  }

  /** Say the values of an element. */
  tell(place) {
    const { own, output } = this;
    const told = [["element", String(place)], ["frame", String(own.frames[place])],
      ...own.classes.map((each) => [className(output, each.class), valued(each, place)])];
    if (own.contrast) told.push(["difference", valued(own.contrast, place)]);
    if (own.other?.status === "ok" && own.other.n === own.n) {
      told.push(...own.other.classes.map((each) => [`B: ${className(output, each.class)}`, valued(each, place)]));
    }
    this.readout.replaceChildren(...told.flatMap(([name, text]) => [made("span", {}, `${name} `, made("b", {}, text)), " "]));
    this.slider.setAttribute("aria-valuetext", told.map((pair) => pair.join(" ")).join(", "));
  }

  /** Mark a moment of the video in all drawings, as a share of their width; null removes the mark. */
  mark(share) {
    document.body.classList.toggle("playing", share !== null);
    if (share === null) return;
    for (const line of this.plots.map((plot) => plot.querySelector(".now"))) {
      line.setAttribute("x1", `${100 * share}%`);
      line.setAttribute("x2", `${100 * share}%`);
    }
  }
}

/** Return the value of an element, with its error. */
export function valued(each, place) {
  const error = each.stderr ? ` ± ${number(each.stderr[place], 4)}` : "";
  return `${number(each.esv[place], 4, true)}${error}`;
}
