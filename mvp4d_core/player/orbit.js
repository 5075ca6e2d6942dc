// SPDX-License-Identifier: Apache-2.0
// A camera on a sphere around the head, and the hands that move it: mouse, touch, wheel and keys.

const PORTRAIT_DISTANCE = 1.2; // metres
const DEGREE = Math.PI / 180;
const LIMITS = { elevation: 85 * DEGREE, nearest: 0.25, farthest: 6 };
const STEP = 5 * DEGREE; // of an arrow key

/** @param {{target: number[], radius: number}} view metres; what a camera at rest shows */
export function createOrbit(view) {
  const rest = { azimuth: 0, elevation: 0, distance: PORTRAIT_DISTANCE, target: view.target };
  const state = { ...rest };

  function turn(azimuth, elevation) {
    state.azimuth += azimuth;
    state.elevation = clamp(state.elevation + elevation, -LIMITS.elevation, LIMITS.elevation);
  }

  function zoom(factor) {
    state.distance = clamp(state.distance * factor, LIMITS.nearest, LIMITS.farthest);
  }

  /** Moves what is looked at, in units of the picture's smaller side. */
  function pan(right, down) {
    const size = (2 * view.radius * state.distance) / PORTRAIT_DISTANCE;
    const { axes } = placement(state);
    state.target = state.target.map((value, k) => value - size * (right * axes[0][k] + down * axes[1][k]));
  }

  /** The camera (see `Camera` in renderer.js) for a picture of this size; its smaller side shows twice `view.radius`. */
  function camera(width, height) {
    const focal = (Math.min(width, height) * PORTRAIT_DISTANCE) / (2 * view.radius);
    const { axes, position } = placement(state);
    return {
      K: [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]],
      camera_from_world: [...axes.map((axis) => [...axis, -dot(axis, position)]), [0, 0, 0, 1]],
      width,
      height,
    };
  }

  /**
   * Where the camera is and what it looks at as viewers tell it: `position` and `target` {x, y, z} in metres, and `fov`, the degrees across
   * the picture's smaller side.
   */
  function look() {
    const [position, target] = [placement(state).position, state.target].map(([x, y, z]) => ({ x, y, z }));
    return { position, target, fov: (2 * Math.atan(view.radius / PORTRAIT_DISTANCE)) / DEGREE };
  }

  /** Back to what `look` gave, within what hands can reach. */
  function lookFrom({ position, target }) {
    const [x, y, z] = [position.x - target.x, position.y - target.y, position.z - target.z];
    const distance = Math.max(1e-6, Math.hypot(x, y, z));
    Object.assign(state, { azimuth: Math.atan2(x, z), elevation: 0, distance, target: [target.x, target.y, target.z] });
    turn(0, Math.asin(clamp(y / distance, -1, 1)));
    zoom(1);
  }

  return { turn, zoom, pan, camera, look, lookFrom, reset: () => Object.assign(state, rest) };
}

/**
 * Lets a person turn the orbit by hand. Keys act while `element` has the focus.
 *
 * @param {HTMLElement} element
 * @param {object} orbit of `createOrbit`
 * @param {{onMove: () => void, onKey: (key: string) => boolean, signal: AbortSignal}} hands `onKey` is asked first and says whether the key
 *   was for it
 */
export function attachOrbit(element, orbit, { onMove, onKey, signal }) {
  const pointers = new Map();

  const moved = (action) => {
    action();
    onMove();
  };

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }, { signal });

  element.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) {
      return;
    }
    const here = { x: event.clientX, y: event.clientY };
    const side = Math.min(element.clientWidth, element.clientHeight);
    const [dx, dy] = [(here.x - last.x) / side, (here.y - last.y) / side];
    if (pointers.size >= 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      moved(() => {
        orbit.zoom(spread(last) / spread(here));
        orbit.pan(dx / 2, dy / 2); // the other finger brings the other half
      });
    } else if (event.shiftKey || (event.buttons & 6) !== 0) {
      moved(() => orbit.pan(dx, dy));
    } else {
      moved(() => orbit.turn(-Math.PI * dx, (Math.PI / 1.5) * dy));
    }
    pointers.set(event.pointerId, here);
  }, { signal });

  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
    element.addEventListener(type, (event) => pointers.delete(event.pointerId), { signal });
  }
  element.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  element.addEventListener("dblclick", () => moved(orbit.reset), { signal });
  element.addEventListener("wheel", (event) => {
    consume(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    moved(() => orbit.zoom(Math.exp(0.0012 * lines * clamp(event.deltaY, -300, 300))));
  }, { signal, passive: false });

  const keys = {
    ArrowLeft: () => orbit.turn(-STEP, 0),
    ArrowRight: () => orbit.turn(STEP, 0),
    ArrowUp: () => orbit.turn(0, STEP),
    ArrowDown: () => orbit.turn(0, -STEP),
    "+": () => orbit.zoom(0.9),
    "=": () => orbit.zoom(0.9),
    "-": () => orbit.zoom(1 / 0.9),
    Home: orbit.reset,
  };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const action = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (action) {
      moved(action);
      consume(event);
    } else if (onKey(event.key)) {
      consume(event);
    }
  }, { signal });
}

/** Neither the page nor what is around the player acts on it too. */
function consume(event) {
  event.preventDefault();
  event.stopPropagation();
}

/** Where a camera of the orbit is, and its axes in the world: right, down, forward. */
function placement({ azimuth, elevation, distance, target }) {
  const [sa, ca, se, ce] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
  return {
    position: [target[0] + distance * sa * ce, target[1] + distance * se, target[2] + distance * ca * ce],
    axes: [[ca, 0, -sa], [sa * se, -ce, ca * se], [-sa * ce, -se, -ca * ce]],
  };
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function clamp(value, least, most) {
  return Math.min(most, Math.max(least, value));
}
