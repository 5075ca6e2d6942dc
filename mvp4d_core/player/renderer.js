// SPDX-License-Identifier: Apache-2.0
// The avatar on the GPU. A frame is: pose (vertices), project (splats), order (near to far), draw.

import { createProgram, createTable, createTarget, deleteTarget, fillTable, rowsFor, useProgram } from "./gl.js";
import { poseTexels, restPose } from "./pose.js";
import { COMPOSE, COVER, DRAW_FRAGMENT, DRAW_VERTEX, FULL, KEYS, SPLATS, VERTICES, WIDTH } from "./shaders.js";

const SLICES = 8; // of the splats; after each, full pixels are shut, which spares half of all blending

/**
 * A camera: `K` (3 x 3, pixels, no skew) and `camera_from_world` (4 x 4, OpenCV axes, metres) as rows of numbers, `width` and `height` in
 * pixels.
 *
 * @typedef {{K: number[][], camera_from_world: number[][], width: number, height: number}} Camera
 */

/** @param {WebGL2RenderingContext} gl @param {object} avatar of `readAvatar` */
export function createRenderer(gl, avatar) {
  const { sizes } = avatar;
  const programs = {
    vertices: createProgram(gl, COVER, VERTICES),
    splats: createProgram(gl, COVER, SPLATS),
    keys: createProgram(gl, COVER, KEYS),
    draw: createProgram(gl, DRAW_VERTEX, DRAW_FRAGMENT),
    full: createProgram(gl, COVER, FULL),
    compose: createProgram(gl, COVER, COMPOSE),
  };
  const tables = createTables(gl, avatar);
  const posed = createTarget(gl, [gl.RGBA32UI], WIDTH, rowsFor(sizes.V));
  const projected = createTarget(gl, [gl.RGBA32UI, gl.RGBA32UI], WIDTH, rowsFor(sizes.N));
  const keyed = createTarget(gl, [gl.RGBA8], WIDTH, rowsFor(Math.ceil(sizes.N / 2)));
  // blending many thin layers rounds less in half floats; bytes do where there are none
  const halfFloats = gl.getExtension("EXT_color_buffer_float") ?? gl.getExtension("EXT_color_buffer_half_float");
  const pictureFormat = halfFloats ? gl.RGBA16F : gl.RGBA8;
  const corners = createCorners(gl, sizes.N);
  const bounds = boundingSphere(avatar);
  let picture = null;
  let offset = [0, 0, 0];
  let camera = null;
  let question = null; // the buffer that the keys go to, and the fence behind them

  function cover(target, program, values) {
    gl.bindFramebuffer(gl.FRAMEBUFFER, target.framebuffer);
    gl.viewport(0, 0, target.width, target.height);
    gl.disable(gl.BLEND);
    useProgram(gl, program, values);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** Puts the vertices where `pose` has them. */
  function pose(parameters) {
    const { texels, active } = poseTexels(avatar, parameters);
    fillTable(gl, tables.pose, 4, texels);
    offset = [...parameters.translation];
    cover(posed, programs.vertices, {
      restTable: tables.rest, weightTable: tables.weights, directionTable: tables.directions, poseTable: tables.pose,
      vertexCount: sizes.V, jointCount: sizes.J, activeCount: active,
    });
  }

  /** Puts the splats where the posed triangles and the camera have them. */
  function project(view) {
    camera = view;
    const rows = view.camera_from_world;
    const rotation = rows.slice(0, 3).flatMap((row) => row.slice(0, 3));
    const translation = rows.slice(0, 3).map((row) => row[3]);
    cover(projected, programs.splats, {
      vertexTable: posed.textures[0], cornerTable: tables.corners,
      meanTable: tables.means, quatTable: tables.quats, scaleTable: tables.scales, shTable: tables.sh,
      splatCount: sizes.N, harmonicCount: sizes.B,
      rotation, translation,
      position: [0, 1, 2].map((k) => -(rotation[k] * translation[0] + rotation[3 + k] * translation[1] + rotation[6 + k] * translation[2])),
      focal: [view.K[0][0], view.K[1][1]], centre: [view.K[0][2], view.K[1][2]], size: [view.width, view.height],
    });
  }

  function writeKeys() {
    const centre = bounds.centre.map((value, k) => value + offset[k]);
    const row = camera.camera_from_world[2];
    const depth = row[0] * centre[0] + row[1] * centre[1] + row[2] * centre[2] + row[3];
    cover(keyed, programs.keys, {
      secondTable: projected.textures[1], splatCount: sizes.N, range: [depth - bounds.radius, depth + bounds.radius],
    });
  }

  const asKeys = (bytes) => new Uint16Array(bytes.buffer, 0, sizes.N).slice();
  const keyBytes = () => new Uint8Array(4 * keyed.width * keyed.height);

  /** The sort keys (N,) of the projected splats, now: the GPU finishes first. */
  function readKeys() {
    writeKeys();
    const bytes = keyBytes();
    gl.readPixels(0, 0, keyed.width, keyed.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    return asKeys(bytes);
  }

  /** Asks for the sort keys without waiting for them. One question at a time. */
  function requestKeys() {
    writeKeys();
    const buffer = gl.createBuffer(); // a new one each time: browsers prepare each for one reading
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
    gl.bufferData(gl.PIXEL_PACK_BUFFER, 4 * keyed.width * keyed.height, gl.STREAM_READ);
    gl.readPixels(0, 0, keyed.width, keyed.height, gl.RGBA, gl.UNSIGNED_BYTE, 0);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    question = { buffer, fence: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0) };
    gl.flush();
  }

  /** The keys that were asked for, or null while the GPU is at it. */
  function takeKeys() {
    if (gl.clientWaitSync(question.fence, 0, 0) === gl.TIMEOUT_EXPIRED) {
      return null;
    }
    const bytes = keyBytes();
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, question.buffer);
    gl.getBufferSubData(gl.PIXEL_PACK_BUFFER, 0, bytes);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    gl.deleteSync(question.fence);
    gl.deleteBuffer(question.buffer);
    question = null;
    return asKeys(bytes);
  }

  /** Draws `order` (N,) from now on, first to last. */
  function setOrder(order) {
    fillTable(gl, tables.order, 1, order);
  }

  /** The picture, premultiplied and without a background, in `picture`: front to back, slice by slice. */
  function drawSplats() {
    const { width, height } = camera;
    if (picture?.width !== width || picture.height !== height) {
      if (picture) {
        deletePicture(gl, picture);
      }
      picture = createPicture(gl, pictureFormat, width, height);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, picture.framebuffer);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    for (let slice = 0; slice < SLICES; slice++) {
      if (slice > 0) {
        shutFullPixels();
      }
      drawSlice(Math.round((sizes.N * slice) / SLICES), Math.round((sizes.N * (slice + 1)) / SLICES));
    }
    gl.disable(gl.DEPTH_TEST);
  }

  function drawSlice(first, end) {
    gl.bindFramebuffer(gl.FRAMEBUFFER, picture.framebuffer);
    gl.viewport(0, 0, picture.width, picture.height);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE_MINUS_DST_ALPHA, gl.ONE);
    gl.depthFunc(gl.LESS);
    gl.depthMask(false);
    useProgram(gl, programs.draw, {
      firstTable: projected.textures[0], secondTable: projected.textures[1], orderTable: tables.order,
      size: [picture.width, picture.height],
    });
    gl.bindVertexArray(corners);
    gl.drawElements(gl.TRIANGLES, 6 * (end - first), gl.UNSIGNED_INT, 24 * first);
    gl.bindVertexArray(null);
    gl.depthMask(true);
  }

  /** Puts a depth before everything where the picture is opaque, so that the GPU drops what is behind before it is shaded. */
  function shutFullPixels() {
    gl.depthFunc(gl.ALWAYS);
    cover({ framebuffer: picture.shutter, width: picture.width, height: picture.height }, programs.full, { picture: picture.textures[0] });
  }

  const backdrop = (color) => (color ? [...color, 1] : [0, 0, 0, 0]);

  /** Draws onto the canvas. `background` is red, green, blue in 0..1, or null for none. */
  function drawToCanvas(background) {
    drawSplats();
    cover({ framebuffer: null, width: camera.width, height: camera.height }, programs.compose, {
      picture: picture.textures[0], background: backdrop(background), upward: true,
    });
  }

  /** Draws aside; the pixels (height, width, 4) from the top, premultiplied. */
  function drawToPixels(background) {
    drawSplats();
    const target = createTarget(gl, [gl.RGBA8], camera.width, camera.height);
    cover(target, programs.compose, { picture: picture.textures[0], background: backdrop(background), upward: false });
    const pixels = new Uint8ClampedArray(4 * camera.width * camera.height);
    gl.readPixels(0, 0, camera.width, camera.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    deleteTarget(gl, target);
    return pixels;
  }

  return { pose, project, readKeys, requestKeys, takeKeys, setOrder, drawToCanvas, drawToPixels };
}

/** The target of the splats: with a depth, and a second framebuffer that has that depth alone. */
function createPicture(gl, format, width, height) {
  const target = createTarget(gl, [format], width, height);
  const depth = gl.createRenderbuffer();
  gl.bindRenderbuffer(gl.RENDERBUFFER, depth);
  gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT16, width, height);
  gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, depth);
  const shutter = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, shutter);
  gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, depth);
  return { ...target, depth, shutter };
}

function deletePicture(gl, picture) {
  deleteTarget(gl, picture);
  gl.deleteFramebuffer(picture.shutter);
  gl.deleteRenderbuffer(picture.depth);
}

function createTables(gl, avatar) {
  const { N, V } = avatar.sizes;
  const means = new Uint16Array(4 * N);
  const corners = new Uint32Array(3 * N);
  for (let i = 0; i < N; i++) {
    means.set(avatar.means.subarray(3 * i, 3 * i + 3), 4 * i);
    means[4 * i + 3] = avatar.opacities[i];
    corners.set(avatar.faces.subarray(3 * avatar.binding[i], 3 * avatar.binding[i] + 3), 3 * i);
  }
  const directions = new Uint16Array(3 * avatar.directions * V);
  avatar.direction_places.forEach((place, entry) => {
    directions.set(avatar.direction_offsets.subarray(3 * entry, 3 * entry + 3), 3 * place);
  });
  return {
    rest: createTable(gl, 3, avatar.vertices),
    weights: createTable(gl, 1, avatar.lbs_weights),
    directions: createTable(gl, 3, directions),
    means: createTable(gl, 4, means),
    quats: createTable(gl, 4, avatar.quats),
    scales: createTable(gl, 3, avatar.log_scales),
    sh: createTable(gl, 3, avatar.sh),
    corners: createTable(gl, 3, corners),
    order: createTable(gl, 1, new Uint32Array(N)),
    pose: createTable(gl, 4, poseTexels(avatar, restPose(avatar)).texels),
  };
}

/** Two triangles for every four vertices. One long list, since GPUs are slow at many instances of four vertices. */
function createCorners(gl, count) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  const corners = [0, 1, 2, 2, 1, 3];
  const vertices = Uint32Array.from({ length: 6 * count }, (_, k) => 4 * Math.floor(k / 6) + corners[k % 6]);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, vertices, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  return array;
}

/** A sphere that holds the head in any ordinary pose: sort keys spread over its depth. */
function boundingSphere({ vertices, view }) {
  let radius = 0;
  for (let i = 0; i < vertices.length; i += 3) {
    radius = Math.max(radius, Math.hypot(...[0, 1, 2].map((k) => vertices[i + k] - view.target[k])));
  }
  return { centre: view.target, radius: 1.25 * radius };
}
