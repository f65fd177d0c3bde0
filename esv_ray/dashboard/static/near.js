// The frames before and after an element, which are no elements themselves: what happens around a deciding frame.

import { choice, field, made, number, plain } from "./dom.js";
import { ask, frameAddress } from "./server.js";
import { asked, note } from "./state.js";

const REST_MS = 200; // stepping through elements decodes nothing
const STRIDES = ["1", "2", "5", "10", "25"];

export class Near {
  constructor(output, own, steps) {
    this.own = own;
    this.steps = steps;
    this.element = null;
    this.step = 0;
    const wanted = asked().get("stride");
    this.stride = STRIDES.includes(wanted) ? wanted : "1";
    this.title = made("h2", { id: "near-h" }, "Frames around an element");
    this.strip = made("ol.strip", { "aria-busy": "true" });
    this.said = made("p.reading", { role: "status" }, "Loading…");
    this.box = output.media ? made("section.near", { "aria-labelledby": "near-h" }, this.title,
      made("div.filters", {}, field("Frames from one to the next", choice(STRIDES.map((each) => [each, each]), this.stride, (value) => this.spread(value)))),
      this.strip, this.said) : null;
    if (this.box) steps.watch((element, playing) => playing || this.look(element));
  }

  begin(signal) {
    if (!this.box) return;
    this.signal = signal;
    signal.addEventListener("abort", () => clearTimeout(this.timer));
    addEventListener("keydown", (event) => {
      const step = { ",": -1, ".": 1 }[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
      const steps = this.frames?.map((each) => each.step) ?? [];
      const next = steps[steps.indexOf(this.step) + step];
      if (next !== undefined) this.enlarge(next);
    }, { signal });
  }

  spread(stride) {
    this.stride = stride;
    note({ stride: stride === "1" ? null : stride });
    const element = this.element;
    this.element = null;
    this.look(element);
  }

  /** Show the frames around an element, once it has been looked at for a moment. */
  look(element) {
    if (element === this.element) return;
    this.element = element;
    this.step = 0;
    clearTimeout(this.timer);
    this.strip.setAttribute("aria-busy", "true");
    const most = element === this.steps.best ? ", the most supporting one" : "";
    this.title.textContent = `Frames around element ${element}${most}`;
    this.timer = setTimeout(() => this.load(element, this.stride), REST_MS);
  }

  async load(element, stride) {
    const { video_id: video, n } = this.own;
    try {
      const found = await ask("near", { video, n, element, stride }, this.signal);
      if (element !== this.element || stride !== this.stride) return;
      this.frames = found.frames;
    } catch (error) {
      if (error.name === "AbortError" || element !== this.element) return;
      this.frames = [];
      this.strip.removeAttribute("aria-busy");
      this.strip.replaceChildren();
      this.said.textContent = plain(error.message);
      return;
    }
    this.strip.removeAttribute("aria-busy");
    this.strip.replaceChildren(...this.frames.map((each) => this.item(element, each)));
    this.said.textContent = this.frames.some((each) => each.step !== 0)
      ? "Click a frame, or step with the keys , and . to see it large."
      : "There are no pictures of frames around it.";
    this.choose(this.step);
    const own = this.strip.querySelector(".element");
    if (own) this.strip.scrollLeft = own.offsetLeft - (this.strip.clientWidth - own.offsetWidth) / 2;
  }

  item(element, each) {
    const src = frameAddress({ video: this.own.video_id, n: this.own.n, element, size: "small", step: each.step, stride: this.stride });
    const time = each.time === null ? "" : `${number(each.time, 2)} s`;
    const image = made("img", { alt: `frame ${each.frame}`, src });
    const button = made("button", { type: "button", onclick: () => this.enlarge(each.step) },
      image, made("span", {}, `${each.frame}`), time ? made("small", {}, time) : null);
    return made("li", { "data-step": each.step }, button);
  }

  enlarge(step) {
    const each = this.frames.find((one) => one.step === step);
    const away = Math.abs(step * Number(this.stride));
    const text = step ? `frame ${each.frame}, ${away} ${step < 0 ? "before" : "after"} element ${this.element}` : `frame ${each.frame}`;
    const src = step
      ? frameAddress({ video: this.own.video_id, n: this.own.n, element: this.element, size: "large", step, stride: this.stride }) : null;
    this.steps.enlarge(this.element, src ? { src, text } : null);
    this.choose(step);
    this.said.textContent = `Shown large: ${text}.`;
  }

  choose(step) {
    this.step = step;
    for (const item of this.strip.children) {
      item.classList.toggle("element", item.dataset.step === "0");
      if (item.dataset.step === String(step)) item.firstChild.setAttribute("aria-current", "true");
      else item.firstChild.removeAttribute("aria-current");
    }
  }
}
