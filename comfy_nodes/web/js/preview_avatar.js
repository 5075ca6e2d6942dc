// SPDX-License-Identifier: Apache-2.0
// The player inside the node MVP4D Preview Avatar. It is the player of mvp4d_core/player, served by the pack at /mvp4d/player/.
//
// A run of the node names the avatar's file. What a hand then sets, sliders and camera, becomes the text of the node's `state` once it has
// come to rest, and goes into the next run. The text is the JSON of the player's `getState`, and empty as long as nothing was touched.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NODE = "MVP4D_PreviewAvatar";
const SIZE = [900, 640];
const LEAST_HEIGHT = 420;
const DIGITS = 1e5; // of numbers in the state: a hundredth of a millimetre

const WORDS = {
  en: {
    waiting: "Run the workflow, and the avatar appears here.",
    gone: "The avatar of the last run is gone. Run the workflow again.",
  },
  zh: {
    waiting: "运行工作流后，数字人会出现在这里。",
    gone: "上次运行的数字人已不存在，请重新运行工作流。",
  },
};

/** What the pack serves beside the extension; it is fetched when the first avatar is shown. */
let loading = null;

function loadPlayer() {
  loading ??= import(api.fileURL("/mvp4d/player/player.js"));
  return loading;
}

app.registerExtension({
  name: "MVP4D.PreviewAvatar",
  setup() {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: api.fileURL("/mvp4d/player/player.css") });
    document.head.append(style);
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) {
      attachPlayer(node);
    }
  },
});

function attachPlayer(node) {
  const state = node.widgets.find(({ name }) => name === "state");
  state.hidden = true;
  state.options.hidden = true;
  const element = document.createElement("div");
  element.addEventListener("keydown", keepFromGraph);
  const widget = node.addDOMWidget("player", "MVP4D_PLAYER", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LEAST_HEIGHT,
  });
  widget.serialize = false; // the state has all that is worth keeping
  node.setSize(SIZE.map((side, axis) => Math.max(side, node.size[axis])));

  let player = null;
  let shown = ""; // the file of the last run that was shown, or is about to be
  tell(element, words().waiting);

  async function show(file) {
    const name = JSON.stringify(file);
    if (name === shown) {
      return;
    }
    shown = name;
    const [{ mountPlayer, showProblem }, answer] = await Promise.all([loadPlayer(), api.fetchApi(`/view?${new URLSearchParams(file)}`)]);
    const bytes = answer.ok ? await answer.arrayBuffer() : null;
    if (name !== shown) {
      return; // a later run was faster
    }
    player?.dispose();
    player = null;
    if (bytes === null) {
      showProblem(element, new Error(words().gone));
      return;
    }
    element.dataset.theme = theme();
    player = await mountPlayer(element, new Uint8Array(bytes), { onSettle: (settled) => keep(state, settled) });
    if (player && state.value) {
      player.setState(JSON.parse(state.value));
    }
  }

  chain(node, "onExecuted", ({ mvp4d_player: files }) => files && show(files[0]));
  // a workflow that is opened again has its nodes made anew, and gets the outputs of its last run back a moment later
  chain(node, "onDrawForeground", () => {
    const files = app.nodeOutputs?.[node.id]?.mvp4d_player;
    if (files && shown === "") {
      show(files[0]);
    }
  });
  chain(node, "onRemoved", () => {
    shown = "removed";
    player?.dispose();
  });
}

/** A key that is pressed in the player is for the player: Delete would remove the node. Shortcuts such as Ctrl+Enter stay the page's. */
function keepFromGraph(event) {
  if (!event.ctrlKey && !event.metaKey) {
    event.stopPropagation();
  }
}

/** The settled state as the widget's text, in an order and with digits that do not change where nothing was changed. */
function keep(widget, settled) {
  const text = JSON.stringify(settled, (_, value) => (typeof value === "number" ? Math.round(value * DIGITS) / DIGITS : value));
  if (text !== widget.value) {
    widget.value = text;
    widget.callback?.(text);
    app.graph.setDirtyCanvas(true);
  }
}

/** Adds to what a node does at one of LiteGraph's events. */
function chain(node, name, added) {
  const before = node[name];
  node[name] = function (...given) {
    before?.apply(this, given);
    added(...given);
  };
}

function tell(element, text) {
  element.classList.add("mvp4d-player");
  element.dataset.theme = theme();
  element.replaceChildren(Object.assign(document.createElement("p"), { className: "mvp4d-problem", textContent: text }));
}

/** The sentences in the page's language, in English where there are none. */
function words() {
  return WORDS[app.extensionManager.setting.get("Comfy.Locale")] ?? WORDS.en;
}

/** Dark or light, as the page is now. */
function theme() {
  return document.querySelector(".dark-theme") ? "dark" : "light";
}
