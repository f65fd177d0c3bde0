// Playing a video: browsers cannot promise which frame they show, so pictures of frames come from the server.

import { made, plain } from "./dom.js";
import { ask, filmAddress } from "./server.js";

export class Player {
  constructor(output, own, steps) {
    this.own = own;
    this.steps = steps;
    this.times = null;
    this.box = output.media ? made("div.player") : null;
  }

  /** Offer to play the video, if there is one. */
  async begin(signal) {
    if (!this.box) return;
    this.signal = signal;
    try {
      const film = await ask("film", { video: this.own.video_id }, signal);
      if (film.reason) this.box.replaceChildren(made("p.small", {}, plain(film.reason)));
      else this.box.replaceChildren(made("button.play", { type: "button", onclick: () => this.play(film) }, "▶ Play the video"));
    } catch (error) {
      if (error.name !== "AbortError") this.box.replaceChildren(made("p.small", {}, plain(error.message)));
    }
  }

  play(film) {
    const video = made("video", { controls: true, playsinline: true, preload: "auto", "aria-label": "Video", src: filmAddress(this.own.video_id, film) });
    video.muted = true; // browsers start only silent videos without a gesture, and sound says nothing of frames
    video.addEventListener("error", () => this.cannot(video, film));
    video.addEventListener("pause", () => this.rest(video));
    video.addEventListener("ended", () => this.rest(video));
    this.signal.addEventListener("abort", () => {
      video.removeAttribute("src");
      video.load();
    });
    this.box.replaceChildren(video);
    this.follow(video, film);
    video.play().catch(() => {}); // it waits for its own button then; what cannot be played is an event of its own
    video.focus();
  }

  /** Move the mark with each frame that is shown. */
  async follow(video, film) {
    const own = this.own;
    try {
      this.times ??= (await ask("film", { video: own.video_id, n: own.n, times: "1" }, this.signal)).times;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.box.append(made("p.small", {}, `The mark does not follow: ${plain(error.message)}`));
      return;
    }
    const start = film.start ?? 0;
    const move = (time) => {
      const last = film.end ?? (Number.isFinite(video.duration) ? video.duration : time);
      const at = placeOf(this.times, time, start, last);
      if (at === null) return;
      this.steps.mark(at.share);
      this.steps.show(at.element, !video.paused);
    };
    if (video.requestVideoFrameCallback) {
      const shown = (now, frame) => {
        move(frame.mediaTime);
        if (video.isConnected) video.requestVideoFrameCallback(shown);
      };
      video.requestVideoFrameCallback(shown);
    } else {
      video.addEventListener("timeupdate", () => move(video.currentTime));
    }
  }

  /** Show the picture of the element that the video stopped at. */
  rest() {
    if (this.steps.place !== null) this.steps.show(this.steps.place, false);
  }

  cannot(video, film) {
    if (!video.hasAttribute("src")) return; // the page was left
    const why = video.error?.code === MediaError.MEDIA_ERR_NETWORK ? "The video could not be read" : `This browser cannot play the video (${film.type})`;
    this.steps.mark(null);
    this.box.replaceChildren(made("p.small", { role: "status" }, `${why}. The pictures of its frames do not depend on that.`));
  }
}

/**
 * Return the element nearest to a time, and the share of a drawing's width at that time; null if no times are known.
 * Elements are in the middle of equal shares: times between two of them are between their middles.
 */
export function placeOf(times, time, start, end) {
  const known = times.map((each, element) => [each, element]).filter(([each]) => each !== null);
  if (!known.length) return null;
  const n = times.length;
  const points = [[start, 0], ...known.map(([each, element]) => [each, (element + 0.5) / n]), [Math.max(end, known.at(-1)[0]), 1]];
  const after = points.findIndex(([each]) => each > time);
  let share = after === 0 ? 0 : 1;
  if (after > 0) {
    const [[from, low], [to, high]] = [points[after - 1], points[after]];
    share = low + ((high - low) * (time - from)) / (to - from);
  }
  const nearest = known.reduce((best, each) => (Math.abs(each[0] - time) < Math.abs(best[0] - time) ? each : best));
  return { element: nearest[1], share };
}
