// SPDX-License-Identifier: Apache-2.0
// The performance: play, stop, and any moment of it.

import { icon, make } from "./elements.js";

/**
 * @param {{T: number}} sizes
 * @param {number} fps
 * @param {{onFrame: (frame: number) => void}} scene is told the frame, whole or between two, whenever it changes
 */
export function createTimeline({ T: frames }, fps, { onFrame }) {
  const button = make("button", { type: "button", class: "mvp4d-icon mvp4d-play" });
  const scrub = make("input", { type: "range", min: 0, max: Math.max(1, frames - 1), step: 1, value: 0, "aria-label": "Frame" });
  const time = make("output");
  const element = make("div", { class: "mvp4d-timeline", role: "group", "aria-label": "Performance" }, [button, scrub, time]);
  element.hidden = frames < 2;
  let playing = false;
  let position = 0; // frames
  let last = null; // time of the last frame drawn, milliseconds

  function show() {
    scrub.value = Math.round(position);
    const text = `${(position / fps).toFixed(1)} / ${((frames - 1) / fps).toFixed(1)} s`;
    time.textContent = text;
    scrub.setAttribute("aria-valuetext", text);
  }

  function setPlaying(value) {
    playing = value && frames > 1;
    last = null;
    const label = playing ? "Pause" : "Play";
    button.replaceChildren(icon(playing ? "pause" : "play"));
    button.setAttribute("aria-label", label);
    button.title = `${label} (space)`;
  }

  function seek(frame) {
    position = Math.min(frames - 1, Math.max(0, frame));
    show();
    onFrame(position);
  }

  /** Moves on to the time `now` in milliseconds; says whether it is playing. */
  function advance(now) {
    if (playing) {
      const step = last === null ? 0 : ((now - last) * fps) / 1000;
      last = now;
      seek((position + step) % Math.max(1, frames - 1));
    }
    return playing;
  }

  button.addEventListener("click", () => {
    setPlaying(!playing);
    onFrame(position);
  });
  scrub.addEventListener("input", () => {
    setPlaying(false);
    seek(Number(scrub.value));
  });
  setPlaying(false);
  show();
  return { element, advance, seek, setPlaying, isPlaying: () => playing };
}
