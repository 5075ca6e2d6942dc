// SPDX-License-Identifier: Apache-2.0
// Elements made in code. Texts only ever become text nodes and attributes, never markup: an avatar's names come from strangers.

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  reset: "M12 5a7 7 0 1 1-6.6 4.7l1.9.7A5 5 0 1 0 12 7v3L7.5 6 12 2z",
  save: "M11 4h2v8l3-3 1.4 1.4L12 15.8l-5.4-5.4L8 9l3 3zM5 18h14v2H5z",
  panel: "M4 6h9v2H4zM17 6h3v2h-3zM14 4h2v6h-2zM4 16h3v2H4zM11 16h9v2h-9zM8 14h2v6H8z",
};

/** An element with properties (`text`, `class`, any attribute; `on...` as listeners), and children. */
export function make(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") {
      element.textContent = value;
    } else if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children);
  return element;
}

/** A drawn sign, hidden from screen readers: what it stands on has the words. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  picture.append(path);
  return picture;
}

/** A button that shows a sign; `label` is its name and its hint. */
export function iconButton(name, label, onclick) {
  return make("button", { type: "button", class: "mvp4d-icon", "aria-label": label, title: label, onclick }, [icon(name)]);
}

/**
 * A labelled slider with its number beside it. `name` is what screen readers say where `label` leans on a heading.
 *
 * @returns {{row: HTMLElement, show: (value: number) => void}}
 */
export function slider({ label, name = label, hint, least, most, step, format, onInput }) {
  const number = make("output", { text: format(0) });
  const input = make("input", { type: "range", min: least, max: most, step, value: 0, title: hint, "aria-label": name });
  let shown = 0;
  const show = (value) => {
    if (value !== shown) {
      shown = value;
      input.value = value;
      const text = format(value);
      number.textContent = text;
      input.setAttribute("aria-valuetext", text);
    }
  };
  input.addEventListener("input", () => onInput(Number(input.value)));
  input.addEventListener("dblclick", () => onInput(0));
  return { row: make("label", { class: "mvp4d-slider" }, [make("span", { text: label }), input, number]), show };
}
