// SPDX-License-Identifier: Apache-2.0
// The few things this player wants of WebGL2: programs, tables (textures read by index) and targets (textures drawn into).

import { PlayerError } from "./safetensors.js";
import { WIDTH } from "./shaders.js";

/** @returns {WebGL2RenderingContext} */
export function openContext(canvas) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, depth: false, powerPreference: "high-performance" });
  if (!gl) {
    throw new PlayerError(
      "This browser cannot draw the avatar: WebGL2 is missing. Use a current Chrome, Edge, Firefox or Safari with hardware acceleration on.",
    );
  }
  return gl;
}

/** A linked program and its uniforms by name, as [location, type]. */
export function createProgram(gl, vertexSource, fragmentSource) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertexSource], [gl.FRAGMENT_SHADER, fragmentSource]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    gl.deleteShader(shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const log = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader)).join(" ").replace(/\0/g, "");
    throw new PlayerError(`This device's graphics driver refuses the player's shaders. Update it. It says: ${log || gl.getProgramInfoLog(program)}`);
  }
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
    const { name, type } = gl.getActiveUniform(program, i);
    uniforms[name] = [gl.getUniformLocation(program, name), type];
  }
  return { program, uniforms };
}

/** Makes `program` current and gives it `values` by name: textures, numbers, booleans, or arrays of numbers. */
export function useProgram(gl, { program, uniforms }, values) {
  gl.useProgram(program);
  let unit = 0;
  for (const [name, value] of Object.entries(values)) {
    const [location, type] = uniforms[name];
    switch (type) {
      case gl.SAMPLER_2D:
      case gl.UNSIGNED_INT_SAMPLER_2D:
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, value);
        gl.uniform1i(location, unit++);
        break;
      case gl.INT:
      case gl.BOOL:
        gl.uniform1i(location, value);
        break;
      case gl.FLOAT_VEC2:
        gl.uniform2fv(location, value);
        break;
      case gl.FLOAT_VEC3:
        gl.uniform3fv(location, value);
        break;
      case gl.FLOAT_VEC4:
        gl.uniform4fv(location, value);
        break;
      case gl.FLOAT_MAT3:
        gl.uniformMatrix3fv(location, true, value); // row-major, as all matrices here
        break;
      default:
        throw new Error(`uniform ${name} has a type that is not handled`);
    }
  }
}

/** The rows that a table of `count` entries takes. */
export function rowsFor(count) {
  return Math.max(1, Math.ceil(count / WIDTH));
}

const LAYOUTS = {
  Float32Array: [["R32F", "RG32F", "RGB32F", "RGBA32F"], ["RED", "RG", "RGB", "RGBA"], "FLOAT"],
  Uint16Array: [["R16F", "RG16F", "RGB16F", "RGBA16F"], ["RED", "RG", "RGB", "RGBA"], "HALF_FLOAT"],
  Uint32Array: [
    ["R32UI", "RG32UI", "RGB32UI", "RGBA32UI"], ["RED_INTEGER", "RG_INTEGER", "RGB_INTEGER", "RGBA_INTEGER"], "UNSIGNED_INT",
  ],
};

/** A texture that holds `data`, `channels` numbers an entry, row after row; half floats come as their bits in a Uint16Array. */
export function createTable(gl, channels, data) {
  const [formats] = LAYOUTS[data.constructor.name];
  const texture = createTexture(gl, gl[formats[channels - 1]], WIDTH, rowsFor(data.length / channels));
  fillTable(gl, texture, channels, data);
  return texture;
}

/** Writes `data` over the first entries of a table. */
export function fillTable(gl, texture, channels, data) {
  const [, layouts, type] = LAYOUTS[data.constructor.name];
  const rows = rowsFor(data.length / channels);
  const padded = new data.constructor(WIDTH * rows * channels);
  padded.set(data);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, WIDTH, rows, gl[layouts[channels - 1]], gl[type], padded);
}

/** A framebuffer over one new texture for each of `formats`. */
export function createTarget(gl, formats, width, height) {
  const textures = formats.map((format) => createTexture(gl, format, width, height));
  const framebuffer = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
  textures.forEach((texture, i) => {
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + i, gl.TEXTURE_2D, texture, 0);
  });
  gl.drawBuffers(textures.map((_, i) => gl.COLOR_ATTACHMENT0 + i));
  return { framebuffer, textures, width, height };
}

export function deleteTarget(gl, target) {
  target.textures.forEach((texture) => gl.deleteTexture(texture));
  gl.deleteFramebuffer(target.framebuffer);
}

function createTexture(gl, format, width, height) {
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  if (width > most || height > most) {
    throw new PlayerError(`This avatar or picture needs a texture of ${width} x ${height}, this device has at most ${most}. Use fewer splats.`);
  }
  const texture = gl.createTexture();
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texStorage2D(gl.TEXTURE_2D, 1, format, width, height);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
    gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  }
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
    gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
  }
  return texture;
}
