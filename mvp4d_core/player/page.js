// SPDX-License-Identifier: Apache-2.0
// A page that is nothing but a player. In its console `player` is the player, null where there can be none.

import { mountPlayer } from "./player.js";

const text = document.getElementById("avatar").textContent.trim();
const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
globalThis.player = await mountPlayer(document.getElementById("view"), bytes);
