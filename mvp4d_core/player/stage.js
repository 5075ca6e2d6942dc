// SPDX-License-Identifier: Apache-2.0
// The canvas and its frames: draws when something has changed, keeps the drawing order up to date, keeps the rate up on slow devices.

import { openContext } from "./gl.js";
import { createRenderer } from "./renderer.js";
import { PlayerError } from "./safetensors.js";
import { createSorter, sortByKey } from "./sorter.js";

const MOST_RATIO = 2; // device pixels per CSS pixel: more is not seen in soft splats
const LEAST_RATIO = 0.6;
const SLOW_FRAME = 24; // milliseconds; slower than that while something moves, and the picture gets coarser until it rests
const REST = 250; // milliseconds without a change

/**
 * @param {HTMLCanvasElement} canvas
 * @param {object} avatar of `readAvatar`
 * @param {{pose: object, cameraFor: (width: number, height: number) => Camera, advance: (now: number) => boolean,
 *   onProblem: (error: Error) => void}} scene `advance` is called before each frame and says whether there must be another; `pose` and
 *   `cameraFor` say what is drawn
 */
export function createStage(canvas, avatar, scene) {
  const gl = openContext(canvas);
  let renderer = createRenderer(gl, avatar);
  let background = null;
  let poseChanged = true; // since it was given to the renderer
  let viewChanged = true;
  let pictureChanged = true; // a new order or background
  let ordered = false; // whether there is an order yet; nothing is drawn before
  let keysStale = false; // projected again since the keys were asked for
  let sorting = "idle"; // then "reading" the keys, then "sorting" them
  let request = 0;
  let lastFrame = 0;
  let lastChange = 0;
  let pace = 16;
  let ratio = MOST_RATIO;
  let sharp = true;

  const sorter = createSorter((order) => {
    sorting = "idle";
    if (!gl.isContextLost()) {
      renderer.setOrder(order);
      ordered = pictureChanged = true;
      wake();
    }
  });

  function wake() {
    request ||= requestAnimationFrame(frame);
  }

  function invalidate({ pose = false, view = false } = {}) {
    poseChanged ||= pose;
    viewChanged ||= pose || view;
    pictureChanged = true;
    if (pose || view) {
      lastChange = performance.now();
    }
    wake();
  }

  function frame(now) {
    request = 0;
    if (gl.isContextLost()) {
      return;
    }
    try {
      const moving = scene.advance(now);
      adapt(now);
      draw();
      if (moving || sorting === "reading" || keysStale || !sharp) {
        wake();
      }
    } catch (error) {
      scene.onProblem(error);
    }
  }

  /** Chooses the resolution: what the device keeps up with while something moves, all it has once it rests. */
  function adapt(now) {
    const moving = now - lastChange < REST;
    if (moving && now - lastFrame < REST) {
      pace += 0.1 * (now - lastFrame - pace);
      if (pace > SLOW_FRAME && ratio > LEAST_RATIO) {
        ratio = Math.max(LEAST_RATIO, 0.8 * Math.min(ratio, devicePixelRatio));
        pace = 16;
      }
    }
    lastFrame = now;
    sharp = !moving || ratio >= Math.min(MOST_RATIO, devicePixelRatio);
    const scale = Math.min(devicePixelRatio, sharp ? MOST_RATIO : ratio);
    const width = Math.max(1, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
      viewChanged = pictureChanged = true;
    }
  }

  function draw() {
    if (poseChanged) {
      renderer.pose(scene.pose);
      poseChanged = false;
    }
    if (viewChanged) {
      renderer.project(scene.cameraFor(canvas.width, canvas.height));
      viewChanged = false;
      pictureChanged = keysStale = true;
    }
    keepOrder();
    if (pictureChanged && ordered) {
      renderer.drawToCanvas(background);
      pictureChanged = false;
    }
  }

  function orderNow() {
    const keys = renderer.readKeys();
    const order = new Uint32Array(keys.length);
    sortByKey(keys, order);
    renderer.setOrder(order);
    ordered = true;
  }

  /** Moves the keys from the GPU to the sorter, a step a frame, so that nothing waits. */
  function keepOrder() {
    if (sorting === "reading") {
      const keys = renderer.takeKeys();
      if (keys) {
        sorting = "sorting";
        sorter.sort(keys);
      }
    } else if (sorting === "idle" && keysStale) {
      renderer.requestKeys();
      keysStale = false;
      sorting = "reading";
    }
  }

  /** The present pose as a picture of the given size in pixels, in exact order. */
  async function screenshot({ width, height, background: color = null }) {
    if (!(Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0 && width <= 8192 && height <= 8192)) {
      throw new RangeError(`A picture must have 1 to 8192 pixels a side, got ${width} x ${height}.`);
    }
    renderer.pose(scene.pose);
    renderer.project(scene.cameraFor(width, height));
    orderNow();
    const pixels = renderer.drawToPixels(color);
    invalidate({ view: true });
    for (let i = 0; i < pixels.length; i += 4) {
      const alpha = pixels[i + 3] || 1; // pictures hold straight colour
      for (let k = i; k < i + 3; k++) {
        pixels[k] = (pixels[k] * 255) / alpha;
      }
    }
    const paper = Object.assign(document.createElement("canvas"), { width, height });
    paper.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    return new Promise((resolve, reject) => {
      const problem = new PlayerError("The picture could not be encoded. Try a smaller one.");
      paper.toBlob((blob) => (blob ? resolve(blob) : reject(problem)), "image/png");
    });
  }

  const lost = (event) => event.preventDefault(); // without this it would not come back
  const restored = () => {
    renderer = createRenderer(gl, avatar);
    ordered = false;
    sorting = "idle";
    invalidate({ pose: true });
  };
  canvas.addEventListener("webglcontextlost", lost);
  canvas.addEventListener("webglcontextrestored", restored);
  const observer = new ResizeObserver(() => invalidate({ view: true }));
  observer.observe(canvas);

  return {
    invalidate,
    screenshot,
    setBackground(color) {
      background = color;
      invalidate();
    },
    dispose() {
      cancelAnimationFrame(request);
      request = -1; // wakes no more
      observer.disconnect();
      sorter.dispose();
      canvas.removeEventListener("webglcontextlost", lost);
      canvas.removeEventListener("webglcontextrestored", restored);
      gl.getExtension("WEBGL_lose_context")?.loseContext();
    },
  };
}
