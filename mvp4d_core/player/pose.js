// SPDX-License-Identifier: Apache-2.0
// The small part of posing that is not worth a GPU: joints, and the list of directions that are not at rest.
// Li et al., "Learning a model of facial shape and expression from 4D scans", 2017, as in `mvp4d_core.rig.skinning`.

/** A pose at rest: `expression` (E,), `rotations` (J, 3) axis-angle radians, `translation` (3,) metres. */
export function restPose({ sizes }) {
  return { expression: new Float32Array(sizes.E), rotations: new Float32Array(3 * sizes.J), translation: new Float32Array(3) };
}

/** Puts frame `frame` of the avatar's performance into `pose`; between two frames, their mixture. */
export function takeFrame(avatar, frame, pose) {
  const before = Math.floor(frame);
  const after = Math.min(before + 1, avatar.sizes.T - 1);
  const part = frame - before;
  for (const [name, values] of Object.entries(pose)) {
    const [from, to] = [before, after].map((index) => avatar[name].subarray(index * values.length, (index + 1) * values.length));
    values.forEach((_, k) => {
      values[k] = from[k] + part * (to[k] - from[k]);
    });
  }
}

/**
 * What the vertex shader wants of a pose, four numbers a texel.
 *
 * @returns {{texels: Float32Array, active: number}} 3 J texels: the rows of each joint's transform, translation included; then `active`
 *   texels (index of a direction, its weight, 0, 0), for the directions whose weight is not zero.
 */
export function poseTexels(avatar, pose) {
  const { sizes, parents } = avatar;
  const matrices = Array.from({ length: sizes.J }, (_, j) => axisAngleToMatrix(pose.rotations.subarray(3 * j, 3 * j + 3)));
  const weights = [...pose.expression];
  for (const matrix of matrices.slice(1)) {
    matrix.forEach((value, k) => weights.push(value - (k % 4 === 0 ? 1 : 0)));
  }
  const texels = new Float32Array(4 * (3 * sizes.J + weights.length));
  const transforms = [];
  for (let j = 0; j < sizes.J; j++) {
    const local = aboutJoint(matrices[j], joint(avatar, pose.expression, j));
    transforms.push(j === 0 ? local : product(transforms[parents[j]], local));
    texels.set(transforms[j], 12 * j);
    for (let row = 0; row < 3; row++) {
      texels[12 * j + 4 * row + 3] += pose.translation[row];
    }
  }
  let active = 0;
  weights.forEach((weight, direction) => {
    if (weight !== 0) {
      texels.set([direction, weight], 4 * (3 * sizes.J + active));
      active += 1;
    }
  });
  return { texels, active };
}

/** Rodrigues' formula: row-major 3 x 3 of an axis-angle vector. */
function axisAngleToMatrix([x, y, z]) {
  const angle = Math.hypot(x, y, z);
  // sin(a)/a and (1 - cos a)/a^2 by their series where the quotients lose digits
  const s = angle < 1e-3 ? 1 - (angle * angle) / 6 : Math.sin(angle) / angle;
  const c = angle < 1e-3 ? 0.5 - (angle * angle) / 24 : (1 - Math.cos(angle)) / (angle * angle);
  return [
    1 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y,
    c * x * y + s * z, 1 - c * (x * x + z * z), c * y * z - s * x,
    c * x * z - s * y, c * y * z + s * x, 1 - c * (x * x + y * y),
  ];
}

/** Where joint `j` rests for an expression, (3,). */
function joint({ joints, joint_directions: directions, sizes }, expression, j) {
  return [0, 1, 2].map((axis) => {
    let place = joints[3 * j + axis];
    for (let e = 0; e < sizes.E; e++) {
      place += directions[(3 * j + axis) * sizes.E + e] * expression[e];
    }
    return place;
  });
}

/** The 3 x 4 transform that turns about a point. */
function aboutJoint(m, [x, y, z]) {
  const moved = [0, 3, 6].map((row) => m[row] * x + m[row + 1] * y + m[row + 2] * z);
  return [m[0], m[1], m[2], x - moved[0], m[3], m[4], m[5], y - moved[1], m[6], m[7], m[8], z - moved[2]];
}

/** The product of two 3 x 4 transforms. */
function product(a, b) {
  const result = [];
  for (let row = 0; row < 12; row += 4) {
    for (let column = 0; column < 4; column++) {
      result.push(a[row] * b[column] + a[row + 1] * b[4 + column] + a[row + 2] * b[8 + column] + (column === 3 ? a[row + 3] : 0));
    }
  }
  return result;
}
