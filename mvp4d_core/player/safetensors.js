// SPDX-License-Identifier: Apache-2.0
// A reader of safetensors bytes: 8 bytes of header length, a JSON header, then the tensors without gaps. Nothing a header says is believed
// before it agrees with the number of bytes that are there.

/** A problem that is worth a sentence to the person looking at the page. */
export class PlayerError extends Error {}

const TYPES = {
  F32: Float32Array,
  F16: Uint16Array, // JavaScript has no half floats; the GPU reads their bits
  U32: Uint32Array,
  I32: Int32Array,
};

/**
 * @param {ArrayBuffer} buffer
 * @returns {{tensors: Map<string, {dtype: string, shape: number[], data: ArrayBufferView}>, metadata: Object<string, string>}}
 * @throws {PlayerError} truncated or lying data
 */
export function readTensors(buffer) {
  const header = readHeader(buffer);
  const begin = 8 + header.length;
  const tensors = new Map();
  let metadata = {};
  for (const [name, entry] of Object.entries(header.json)) {
    if (name === "__metadata__") {
      if (!isObject(entry) || !Object.values(entry).every((text) => typeof text === "string")) {
        throw damaged("its metadata is not a table of texts");
      }
      metadata = entry;
    } else {
      tensors.set(name, readTensor(buffer, begin, name, entry));
    }
  }
  return { tensors, metadata };
}

/** The error of data that contradicts itself. */
export function damaged(reason) {
  return new PlayerError(`This avatar is damaged: ${reason}. Export it again.`);
}

function readHeader(buffer) {
  if (buffer.byteLength < 8) {
    throw damaged(`it has only ${buffer.byteLength} bytes`);
  }
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > buffer.byteLength - 8) {
    throw damaged("it ends within its header");
  }
  let json;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw damaged("its header is not JSON");
  }
  if (!isObject(json)) {
    throw damaged("its header is not a table");
  }
  return { length, json };
}

function readTensor(buffer, begin, name, entry) {
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  const type = Object.hasOwn(TYPES, dtype) ? TYPES[dtype] : null;
  if (!type || !areCounts(shape) || !areCounts(offsets) || offsets.length !== 2) {
    throw damaged(`${name} is not described`);
  }
  const count = shape.reduce((product, size) => product * size, 1);
  const [first, end] = offsets;
  if (end - first !== count * type.BYTES_PER_ELEMENT || begin + end > buffer.byteLength) {
    throw damaged(`${name} is not as long as it says`);
  }
  // a copy, since a view must begin at a multiple of its element's size
  return { dtype, shape, data: new type(buffer.slice(begin + first, begin + end)) };
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function areCounts(values) {
  return Array.isArray(values) && values.every((value) => Number.isSafeInteger(value) && value >= 0);
}
