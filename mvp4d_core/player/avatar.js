// SPDX-License-Identifier: Apache-2.0
// The avatar as the player holds it, read from the bytes that `mvp4d_core.player.pack` wrote.

import { PlayerError, damaged, readTensors } from "./safetensors.js";

const SCHEMA = "mvp4d-player/1";

// name -> [dtype, shape]; letters are sizes that must agree: N splats, B harmonics, F triangles, V vertices, J joints, E expressions,
// M entries of sparse directions, T frames
const TENSORS = {
  means: ["F16", ["N", 3]],
  quats: ["F16", ["N", 4]],
  log_scales: ["F16", ["N", 3]],
  opacities: ["F16", ["N"]],
  sh: ["F16", ["N", "B", 3]],
  binding_steps: ["U32", ["N"]],
  faces: ["U32", ["F", 3]],
  vertices: ["F32", ["V", 3]],
  lbs_weights: ["F32", ["V", "J"]],
  joints: ["F32", ["J", 3]],
  joint_directions: ["F32", ["J", 3, "E"]],
  parents: ["I32", ["J"]],
  direction_steps: ["U32", ["M"]],
  direction_offsets: ["F16", ["M", 3]],
  expression: ["F32", ["T", "E"]],
  rotations: ["F32", ["T", "J", 3]],
  translation: ["F32", ["T", 3]],
};

/**
 * Reads a packed avatar.
 *
 * @param {ArrayBuffer | Uint8Array} bytes as `pack_avatar` made them, compressed by gzip
 * @returns {Promise<object>} the arrays of TENSORS by name; `binding` (N,) and `direction_places` (M,); `sizes` by letter; `names` of
 *   expressions and joints; `fps`; `view`
 *   ({target, radius} in metres); `expressionRange`; `title` and `notes`, texts of unknown origin
 * @throws {PlayerError} damaged data, or a browser that cannot read it
 */
export async function readAvatar(bytes) {
  const { tensors, metadata } = readTensors(await inflated(bytes));
  if (metadata.schema !== SCHEMA) {
    throw new PlayerError(`This avatar has the schema "${metadata.schema ?? ""}", the player reads "${SCHEMA}". Export it again.`);
  }
  const sizes = {};
  const avatar = { sizes };
  for (const [name, [dtype, shape]] of Object.entries(TENSORS)) {
    const tensor = tensors.get(name);
    if (!tensor || tensor.dtype !== dtype || tensor.shape.length !== shape.length) {
      throw damaged(`${name} is missing or of another kind`);
    }
    shape.forEach((size, axis) => {
      const wanted = typeof size === "number" ? size : (sizes[size] ??= tensor.shape[axis]);
      if (tensor.shape[axis] !== wanted) {
        throw damaged(`${name} has ${tensor.shape[axis]} where ${wanted} are needed`);
      }
    });
    avatar[name] = tensor.data;
  }
  return Object.assign(avatar, readTexts(metadata, sizes), checked(avatar));
}

async function inflated(bytes) {
  if (typeof DecompressionStream === "undefined") {
    throw new PlayerError("This browser is too old for the player. Open the page in a current Chrome, Edge, Firefox or Safari.");
  }
  try {
    return await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  } catch {
    throw damaged("it cannot be unpacked");
  }
}

function readTexts(metadata, sizes) {
  let texts;
  try {
    texts = JSON.parse(metadata.player);
  } catch {
    throw damaged("its description is not JSON");
  }
  const { expression_names: expressions, joint_names: joints, fps, view, expression_range: range, title, notes } = texts ?? {};
  const sound =
    areTexts(expressions, sizes.E) &&
    areTexts(joints, sizes.J) &&
    areNumbers([fps], 1) &&
    fps > 0 &&
    areNumbers(view?.target, 3) &&
    areNumbers([view?.radius], 1) &&
    view.radius > 0 &&
    areNumbers(range, 2) &&
    areTexts([title], 1) &&
    areTexts(notes, notes?.length);
  if (!sound) {
    throw damaged("its description is incomplete");
  }
  return { names: { expressions, joints }, fps, view, expressionRange: range, title, notes };
}

/** The indices; raises unless each names something that is there, since a shader would read past its textures without a word. */
function checked({ sizes, binding_steps, faces, parents, direction_steps }) {
  const directions = sizes.E + 9 * (sizes.J - 1);
  const binding = summed(binding_steps, sizes.F);
  const places = summed(direction_steps, directions * sizes.V);
  if (!faces.every((vertex) => vertex < sizes.V)) {
    throw damaged("it points beyond its own arrays");
  }
  if (!(sizes.J > 0 && sizes.T > 0 && sizes.N > 0)) {
    throw damaged("it has no splats, no joints or no frames");
  }
  if (!parents.every((parent, j) => (j ? parent >= 0 && parent < j : parent === -1))) {
    throw damaged("its joints do not form a tree");
  }
  if (![0, 1, 2, 3].includes(Math.sqrt(sizes.B) - 1)) {
    throw damaged(`it has ${sizes.B} spherical harmonics a splat`);
  }
  return { directions, binding, direction_places: places };
}

/** Whole numbers below `limit` from the steps between them. */
function summed(steps, limit) {
  let sum = 0;
  return steps.map((step) => {
    sum += step;
    if (sum >= limit) {
      throw damaged("it points beyond its own arrays");
    }
    return sum;
  });
}

function areTexts(values, count) {
  return Array.isArray(values) && values.length === count && values.every((value) => typeof value === "string");
}

function areNumbers(values, count) {
  return Array.isArray(values) && values.length === count && values.every((value) => Number.isFinite(value));
}
