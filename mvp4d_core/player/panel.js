// SPDX-License-Identifier: Apache-2.0
// The controls beside the picture: expressions, joints, background and picture, and what is known of the avatar.

import { make, slider } from "./elements.js";

const GROUPS = [
  ["Mouth and tongue", /^(mouth|tongue)/],
  ["Jaw", /^jaw/],
  ["Eyes", /^eye/],
  ["Brows", /^brow/],
  ["Cheeks and nose", /^(cheek|nose)/],
  ["Expression", /^/],
];
// what turning about x, y and z looks like, by what the joint's name says it is
const TURNS = [
  [/eye/, ["Down", "Sideways", "Roll"]],
  [/jaw/, ["Open", "Sideways", "Twist"]],
  [/^/, ["Nod", "Turn", "Tilt"]],
];
const MOST_DEGREES = 45;
const DEGREE = Math.PI / 180;
const BACKGROUNDS = [
  ["Soft", null],
  ["White", [1, 1, 1]],
  ["Grey", [0.5, 0.5, 0.5]],
  ["Black", [0, 0, 0]],
];

/**
 * @param {object} avatar of `readAvatar`
 * @param {object} player the handles of `createPlayer`
 * @returns {{element: HTMLElement, show: (pose: object) => void}} `show` moves the sliders to a pose
 */
export function createPanel(avatar, player) {
  const link = make("input", { type: "checkbox", checked: true });
  const expressions = expressionSliders(avatar, player, link);
  const joints = jointSliders(avatar, player, link);
  const element = make("form", { class: "mvp4d-panel", "aria-label": "Controls", autocomplete: "off" }, [
    make("div", { class: "mvp4d-row" }, [
      make("label", { class: "mvp4d-check" }, [link, make("span", { text: "Move both sides" })]),
      make("button", { type: "button", class: "mvp4d-button", text: "Neutral", onclick: () => player.reset() }),
    ]),
    ...expressions.sections,
    ...joints.sections,
    section("Background and picture", [backgroundChoice(player), pictureButtons(player)]),
    ...(avatar.notes.length ? [section("About", avatar.notes.map((text) => make("p", { text })))] : []),
  ]);
  element.addEventListener("submit", (event) => event.preventDefault());
  const show = (pose) => {
    pose.expression.forEach((value, e) => expressions.shows[e](value));
    pose.rotations.forEach((value, k) => joints.shows[k](value / DEGREE));
  };
  return { element, show };
}

function section(title, children, open = false) {
  return make("details", { open }, [make("summary", { text: title }), make("div", { class: "mvp4d-section" }, children)]);
}

function expressionSliders(avatar, player, link) {
  const names = avatar.names.expressions;
  const [least, most] = avatar.expressionRange;
  const shows = [];
  const groups = GROUPS.map(([title, pattern]) => ({ title, pattern, rows: [] }));
  for (const name of names) {
    const group = groups.find(({ pattern }) => pattern.test(name));
    const { row, show } = slider({
      label: words(name.replace(/^(mouth|jaw|eye|brow)(?=[A-Z])(?!Left$|Right$)/, "")),
      hint: name,
      least,
      most,
      step: 0.01,
      format: (value) => value.toFixed(2),
      onInput: (value) => player.act(() => {
        player.setExpression(name, value);
        const partner = mirrored(name);
        if (link.checked && names.includes(partner)) {
          player.setExpression(partner, value);
        }
      }),
    });
    group.rows.push(row);
    shows.push(show);
  }
  const filled = groups.filter(({ rows }) => rows.length);
  return { shows, sections: filled.map(({ title, rows }, k) => section(title, rows, k === 0)) };
}

function jointSliders(avatar, player, link) {
  const names = avatar.names.joints;
  const shows = [];
  const rows = [];
  names.forEach((name) => {
    const title = name === "root" ? "Whole head" : words(name);
    rows.push(make("h3", { text: title }));
    TURNS.find(([pattern]) => pattern.test(name))[1].forEach((turn, axis) => {
      const { row, show } = slider({
        label: turn,
        name: `${title}, ${turn.toLowerCase()}`,
        hint: `${name}, degrees about ${"xyz"[axis]}`,
        least: -MOST_DEGREES,
        most: MOST_DEGREES,
        step: 1,
        format: (value) => `${Math.round(value)}°`,
        onInput: (value) => player.act(() => {
          const partner = name.startsWith("left_") ? name.replace("left_", "right_") : name.replace("right_", "left_");
          for (const moved of link.checked && names.includes(partner) ? [name, partner] : [name]) {
            const angles = player.getJoint(moved);
            angles[axis] = value * DEGREE;
            player.setJoint(moved, angles);
          }
        }),
      });
      rows.push(row);
      shows.push(show);
    });
  });
  return { shows, sections: [section("Head, jaw and gaze", rows)] };
}

function backgroundChoice(player) {
  const custom = make("input", { type: "color", value: "#7d9cc0", "aria-label": "Background colour of your own" });
  const swatches = BACKGROUNDS.map(([title, color]) => {
    const input = make("input", { type: "radio", name: "mvp4d-background", checked: color === null });
    input.addEventListener("change", () => player.setBackground(color));
    return make("label", { class: "mvp4d-check" }, [input, make("span", { text: title })]);
  });
  const own = make("input", { type: "radio", name: "mvp4d-background" });
  const apply = () => {
    own.checked = true;
    player.setBackground([1, 3, 5].map((at) => parseInt(custom.value.slice(at, at + 2), 16) / 255));
  };
  own.addEventListener("change", apply);
  custom.addEventListener("input", apply);
  return make("fieldset", { class: "mvp4d-choice" }, [
    make("legend", { text: "Background" }),
    ...swatches,
    make("span", { class: "mvp4d-check" }, [make("label", { class: "mvp4d-check" }, [own, make("span", { text: "Own" })]), custom]),
  ]);
}

function pictureButtons(player) {
  const size = make("select", { "aria-label": "Size of the picture" }, [
    ...[512, 1024, 2048].map((side) => make("option", { value: side, text: `${side} px`, selected: side === 1024 })),
  ]);
  const clear = make("input", { type: "checkbox" });
  const save = make("button", {
    type: "button",
    class: "mvp4d-button mvp4d-wide",
    text: "Save picture",
    onclick: () => player.savePicture(Number(size.value), clear.checked),
  });
  return make("div", { class: "mvp4d-row" }, [
    size,
    make("label", { class: "mvp4d-check" }, [clear, make("span", { text: "Transparent" })]),
    save,
  ]);
}

/** "mouthSmileLeft" or "left_eye" as words a person reads. */
function words(name) {
  const text = name.replace(/_/g, " ").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The expression that goes with `name` on the other side of the face, or null. */
function mirrored(name) {
  if (/^(mouth|jaw)(Left|Right)$/.test(name)) {
    return null; // the one undoes the other
  }
  const gaze = name.match(/^eyeLook(In|Out)(Left|Right)$/); // eyes that look the same way: one towards the nose, one away from it
  if (gaze) {
    return `eyeLook${gaze[1] === "In" ? "Out" : "In"}${gaze[2] === "Left" ? "Right" : "Left"}`;
  }
  return name.endsWith("Left") ? name.replace(/Left$/, "Right") : name.replace(/Right$/, "Left");
}
