// SPDX-License-Identifier: Apache-2.0
// A player of animatable Gaussian avatars in a web page, on WebGL2 alone.
//
//   import { createPlayer, readAvatar } from "./player.js";
//   const player = createPlayer(element, await readAvatar(bytes));
//   player.setExpression("jawOpen", 0.6);
//
// `bytes` are those of `mvp4d_core.player.pack_avatar`. The page also needs player.css. `mountPlayer` does both steps and shows what goes
// wrong as one line in the element. `data-theme` on the element, "dark" or "light", overrules what the person prefers.

import { readAvatar } from "./avatar.js";
import { iconButton, make } from "./elements.js";
import { attachOrbit, createOrbit } from "./orbit.js";
import { createPanel } from "./panel.js";
import { restPose, takeFrame } from "./pose.js";
import { createStage } from "./stage.js";
import { createTimeline } from "./timeline.js";

export { PlayerError } from "./safetensors.js";
export { readAvatar };

const SETTLED = 120; // milliseconds without a change

/**
 * Fills `element` with a player of `avatar`.
 *
 * @param {HTMLElement} element any size; it is emptied first
 * @param {object} avatar of `readAvatar`
 * @param {{controls?: boolean, onSettle?: (state: object) => void}} options without `controls` there is the picture alone, which still
 *   turns by hand; `onSettle` is told `getState()` each time that a change of pose or camera has come to rest
 * @throws {PlayerError} no WebGL2, or an avatar too large for the device
 */
export function createPlayer(element, avatar, { controls = true, onSettle = () => {} } = {}) {
  const pose = restPose(avatar);
  const orbit = createOrbit(avatar.view);
  const ending = new AbortController();
  let fixedCamera = null;
  let background = null;
  let panel = null;
  let timeline = null;
  let settling = 0;

  const canvas = make("canvas", {
    tabindex: 0,
    role: "application",
    "aria-label": `${avatar.title}, a head in three dimensions. Arrow keys turn it, plus and minus zoom, space plays.`,
  });
  const said = make("p", { class: "mvp4d-said", role: "status", text: "Drag to turn, scroll or pinch to zoom." });
  const stage = createStage(canvas, avatar, {
    pose,
    cameraFor: (width, height) => (fixedCamera ? fitted(fixedCamera, width, height) : orbit.camera(width, height)),
    advance: (now) => timeline?.advance(now) ?? false,
    onProblem: (error) => showProblem(element, error),
  });

  function showPose() {
    panel?.show(pose);
    stage.invalidate({ pose: true });
  }

  function changed() {
    showPose();
    touched();
  }

  function touched() {
    clearTimeout(settling);
    settling = setTimeout(() => timeline.isPlaying() || onSettle(player.getState()), SETTLED);
  }

  function indexOf(names, name, what) {
    const index = names.indexOf(name);
    if (index < 0) {
      throw new RangeError(`This avatar has no ${what} "${name}". It has ${names.join(", ")}.`);
    }
    return index;
  }

  const jointOffset = (name) => 3 * indexOf(avatar.names.joints, name, "joint");

  const player = {
    /** Sets one expression to a weight; ARKit's go from 0 to 1. */
    setExpression(name, value) {
      pose.expression[indexOf(avatar.names.expressions, name, "expression")] = finite(value);
      changed();
    },
    /** Turns a joint: axis-angle (x, y, z) in radians, relative to its parent. */
    setJoint(name, angles) {
      pose.rotations.set([0, 1, 2].map((k) => finite(angles[k])), jointOffset(name));
      changed();
    },
    getJoint(name) {
      return [...pose.rotations.subarray(jointOffset(name), jointOffset(name) + 3)];
    },
    /** Shows a frame of the performance inside the avatar; between two frames it is interpolated. */
    setFrame(frame) {
      timeline.seek(finite(frame));
    },
    play: () => player.setPlaying(true),
    pause: () => player.setPlaying(false),
    setPlaying(playing) {
      timeline.setPlaying(playing);
      stage.invalidate();
      touched();
    },
    /** Back to the neutral face, looking ahead. */
    reset() {
      player.pause();
      for (const values of Object.values(pose)) {
        values.fill(0);
      }
      changed();
    },
    /**
     * Pose and camera as plain values: `expression` and `joints` by name, those that are not at rest; `camera` as `look` of orbit.js
     * gives it.
     */
    getState() {
      const turns = avatar.names.joints.map((name) => [name, player.getJoint(name)]);
      const weights = avatar.names.expressions.map((name, e) => [name, pose.expression[e]]);
      return {
        expression: Object.fromEntries(weights.filter(([, value]) => value !== 0)),
        joints: Object.fromEntries(turns.filter(([, angles]) => angles.some((angle) => angle !== 0))),
        camera: orbit.look(),
      };
    },
    /** Takes pose and camera of `getState`, also of another avatar's: what this one has no name for is left out. */
    setState({ expression = {}, joints = {}, camera = null }) {
      const { expressions, joints: jointNames } = avatar.names;
      pose.expression.set(expressions.map((name) => finite(Object.hasOwn(expression, name) ? expression[name] : 0)));
      pose.rotations.set(jointNames.flatMap((name) => (Object.hasOwn(joints, name) ? joints[name].map(finite) : [0, 0, 0])));
      if (camera) {
        orbit.lookFrom(camera);
      }
      showPose();
    },
    /** Looks through a `Camera` (see renderer.js), fitted into the element, until a hand turns the picture; null lets go of it. */
    setCamera(camera) {
      fixedCamera = camera;
      stage.invalidate({ view: true });
    },
    /** Red, green, blue in 0..1, or null for what the style sheet has behind the picture. */
    setBackground(color) {
      background = color && [0, 1, 2].map((k) => finite(color[k]));
      stage.setBackground(background);
    },
    /** A PNG of the present pose and camera: a promise of a Blob. Transparent without a `background`. */
    screenshot: ({ width = canvas.width, height = canvas.height, background: behind = null } = {}) =>
      stage.screenshot({ width, height, background: behind }),
    /** Stops, gives the GPU's memory back and empties the element. */
    dispose() {
      clearTimeout(settling);
      ending.abort();
      stage.dispose();
      element.replaceChildren();
      element.classList.remove("mvp4d-player");
    },
  };

  timeline = createTimeline(avatar.sizes, avatar.fps, {
    onFrame(frame) {
      takeFrame(avatar, frame, pose);
      changed();
    },
  });
  attachOrbit(canvas, orbit, {
    onMove() {
      fixedCamera = null;
      said.textContent = "";
      stage.invalidate({ view: true });
      touched();
    },
    onKey(key) {
      if (key === " ") {
        player.setPlaying(!timeline.isPlaying());
      }
      return key === " ";
    },
    signal: ending.signal,
  });

  element.classList.add("mvp4d-player");
  const view = make("div", { class: "mvp4d-stage" }, [canvas, said]);
  const frame = make("div", { class: controls ? "mvp4d-frame" : "mvp4d-frame mvp4d-bare" }, [view]);
  if (controls) {
    panel = createPanel(avatar, {
      ...player,
      /** A change by hand: the performance stops, so that it does not undo it. */
      act(change) {
        player.pause();
        change();
      },
      savePicture(side, transparent) {
        const behind = transparent ? null : (background ?? colorOf(view));
        const saved = player.screenshot({ width: side, height: side, background: behind }).then((blob) => download(blob, avatar.title));
        saved.then(() => "Picture saved.", (error) => error.message).then((text) => (said.textContent = text));
      },
    });
    view.append(header(avatar, frame, () => {
      orbit.reset();
      player.setCamera(null);
      touched();
    }));
    frame.append(timeline.element, panel.element);
  }
  element.replaceChildren(frame);
  stage.invalidate({ pose: true });
  return player;
}

/**
 * Reads the avatar and creates its player; what goes wrong becomes one line in the element.
 *
 * @returns {Promise<object | null>} the player
 */
export async function mountPlayer(element, bytes, options) {
  try {
    return createPlayer(element, await readAvatar(bytes), options);
  } catch (error) {
    showProblem(element, error);
    return null;
  }
}

/** One line in the element instead of a player. */
export function showProblem(element, error) {
  element.classList.add("mvp4d-player");
  element.replaceChildren(make("p", { class: "mvp4d-problem", role: "alert", text: error.message }));
}

function header(avatar, frame, onReset) {
  const toggle = iconButton("panel", "Controls", () => {
    const hidden = frame.classList.toggle("mvp4d-bare");
    toggle.setAttribute("aria-expanded", String(!hidden));
  });
  toggle.setAttribute("aria-expanded", "true");
  return make("header", {}, [make("h2", { text: avatar.title }), iconButton("reset", "Reset the view", onReset), toggle]);
}

/** `camera` for a picture of another size: all of it, in the middle. */
function fitted({ K, camera_from_world, width, height }, toWidth, toHeight) {
  const scale = Math.min(toWidth / width, toHeight / height);
  const [left, top] = [(toWidth - scale * width) / 2, (toHeight - scale * height) / 2];
  return {
    K: [[scale * K[0][0], 0, scale * K[0][2] + left], [0, scale * K[1][1], scale * K[1][2] + top], [0, 0, 1]],
    camera_from_world,
    width: toWidth,
    height: toHeight,
  };
}

/** The colour that a style sheet has behind an element, red, green, blue in 0..1. */
function colorOf(element) {
  const numbers = getComputedStyle(element).backgroundColor.match(/[\d.]+/g) ?? [255, 255, 255];
  return numbers.slice(0, 3).map((number) => Number(number) / 255);
}

function download(blob, title) {
  const url = URL.createObjectURL(blob);
  const name = title.replace(/[^\p{L}\p{N} ._-]/gu, "").trim().slice(0, 60) || "avatar";
  make("a", { href: url, download: `${name}.png` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function finite(value) {
  if (!Number.isFinite(value)) {
    throw new RangeError(`A number is wanted, got ${value}.`);
  }
  return value;
}
