// SPDX-License-Identifier: Apache-2.0
// The GPU's part, in the order of a frame: vertices, splats, sort keys, drawing, and the picture on its background.
// The results are those of `mvp4d_core.rig.skinning`, `mvp4d_core.rig.binding` and `mvp4d_core.render.splats`.
//
// Tables are textures WIDTH texels wide, read by one index. What a pass writes for the next are the bits of floats in unsigned integers:
// every WebGL2 can draw into those, while drawing into floats is an extension.

export const WIDTH = 2048;

const HEAD = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp usampler2D;
ivec2 place(int index) { return ivec2(index % ${WIDTH}, index / ${WIDTH}); }
`;

const PASS = `${HEAD}
int pixel() { return int(gl_FragCoord.y) * ${WIDTH} + int(gl_FragCoord.x); }
`;

/** One triangle that covers the whole target, in front of everything. */
export const COVER = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, -1.0, 1.0); }`;

/** Blend shapes, pose correctives and linear blend skinning: one fragment a vertex, its posed place as bits. */
export const VERTICES = `${PASS}
uniform sampler2D restTable, weightTable, directionTable, poseTable;
uniform int vertexCount, jointCount, activeCount;
out uvec4 result;

void main() {
  int v = pixel();
  if (v >= vertexCount) { result = uvec4(0u); return; }
  vec3 rest = texelFetch(restTable, place(v), 0).xyz;
  for (int k = 0; k < activeCount; k++) {
    vec2 entry = texelFetch(poseTable, place(3 * jointCount + k), 0).xy;
    rest += entry.y * texelFetch(directionTable, place(int(entry.x) * vertexCount + v), 0).xyz;
  }
  vec4 rows[3] = vec4[3](vec4(0), vec4(0), vec4(0));
  for (int j = 0; j < jointCount; j++) {
    float weight = texelFetch(weightTable, place(v * jointCount + j), 0).x;
    for (int row = 0; row < 3; row++) {
      rows[row] += weight * texelFetch(poseTable, place(3 * j + row), 0);
    }
  }
  vec4 point = vec4(rest, 1);
  result = uvec4(floatBitsToUint(vec3(dot(rows[0], point), dot(rows[1], point), dot(rows[2], point))), 0u);
}`;

const HARMONICS = `
vec3 harmonics(int splat, vec3 d) {
  float x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  float basis[16] = float[16](
    0.28209479, -0.48860251 * y, 0.48860251 * z, -0.48860251 * x,
    1.09254843 * x * y, -1.09254843 * y * z, 0.31539157 * (2.0 * zz - xx - yy), -1.09254843 * x * z, 0.54627422 * (xx - yy),
    -0.59004359 * y * (3.0 * xx - yy), 2.89061144 * x * y * z, -0.45704580 * y * (4.0 * zz - xx - yy),
    0.37317633 * z * (2.0 * zz - 3.0 * (xx + yy)), -0.45704580 * x * (4.0 * zz - xx - yy), 1.44530572 * z * (xx - yy),
    -0.59004359 * x * (xx - 3.0 * yy));
  vec3 color = vec3(0.5);
  for (int b = 0; b < harmonicCount; b++) {
    color += basis[b] * texelFetch(shTable, place(splat * harmonicCount + b), 0).rgb;
  }
  return max(color, 0.0);
}`;

/**
 * One fragment a splat: onto its triangle, into the camera, onto the image plane (EWA splatting, 0.3 px^2 of blur).
 * `first` holds the centre in pixels (two floats) and the two half axes of the ellipse at one standard deviation (pairs of half floats);
 * `second` holds red and green, blue and opacity (pairs of half floats) and the depth (a float). Opacity 0 means not drawn.
 */
export const SPLATS = `${PASS}
uniform usampler2D vertexTable, cornerTable;
uniform sampler2D meanTable, quatTable, scaleTable, shTable;
uniform int splatCount, harmonicCount;
uniform mat3 rotation;
uniform vec3 translation, position;
uniform vec2 focal, centre, size;
layout(location = 0) out uvec4 first;
layout(location = 1) out uvec4 second;
${HARMONICS}

vec3 vertex(uint id) { return uintBitsToFloat(texelFetch(vertexTable, place(int(id)), 0).xyz); }

mat3 turn(vec4 q) {
  q /= length(q);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void main() {
  first = second = uvec4(0u);
  int splat = pixel();
  if (splat >= splatCount) { return; }

  uvec3 corners = texelFetch(cornerTable, place(splat), 0).xyz;
  vec3 v0 = vertex(corners.x), v1 = vertex(corners.y), v2 = vertex(corners.z);
  vec3 edge = v1 - v0, side = v2 - v0;
  vec3 a0 = edge / max(length(edge), 1e-12);
  vec3 normal = cross(a0, side);
  float height = length(normal);
  vec3 n = normal / max(height, 1e-12);
  vec3 a2 = -cross(n, a0);
  float triangle = (length(edge) + abs(dot(a2, side))) / 2.0;
  mat3 frame = height > 1e-12 ? mat3(a0, n, a2) : mat3(1.0);

  vec4 local = texelFetch(meanTable, place(splat), 0);
  vec3 mean = frame * local.xyz * triangle + (v0 + v1 + v2) / 3.0;
  vec3 seen = rotation * mean + translation;
  if (seen.z < 0.01 || local.w < 1.0 / 255.0) { return; }

  vec3 scale = exp(texelFetch(scaleTable, place(splat), 0).xyz) * triangle;
  mat3 spread = rotation * frame * turn(texelFetch(quatTable, place(splat), 0));
  spread = mat3(spread[0] * scale.x, spread[1] * scale.y, spread[2] * scale.z);
  vec2 zoom = focal / seen.z;
  // the linearisation fails far outside the picture, so it is taken at most 15 % outside
  vec2 slope = clamp(seen.xy / seen.z, -(centre + 0.15 * size) / focal, (1.15 * size - centre) / focal);
  vec3 row0 = zoom.x * (vec3(spread[0].x, spread[1].x, spread[2].x) - slope.x * vec3(spread[0].z, spread[1].z, spread[2].z));
  vec3 row1 = zoom.y * (vec3(spread[0].y, spread[1].y, spread[2].y) - slope.y * vec3(spread[0].z, spread[1].z, spread[2].z));
  float a = dot(row0, row0) + 0.3, b = dot(row0, row1), c = dot(row1, row1) + 0.3;
  float determinant = a * c - b * b;
  if (!(determinant > 0.0)) { return; }

  float half_difference = (a - c) / 2.0;
  float major = (a + c) / 2.0 + length(vec2(half_difference, b));
  vec2 axis = vec2(b, major - a);
  if (dot(axis, axis) < 1e-12 * major * major) { axis = a >= c ? vec2(1, 0) : vec2(0, 1); }
  axis = normalize(axis);
  float long_half = min(sqrt(major), 6e4), short_half = min(sqrt(determinant / major), 6e4);
  vec2 center = zoom * seen.xy + centre;
  vec3 color = min(harmonics(splat, normalize(mean - position)), 6e4);
  first = uvec4(floatBitsToUint(center), packHalf2x16(axis * long_half), packHalf2x16(vec2(-axis.y, axis.x) * short_half));
  second = uvec4(packHalf2x16(color.rg), packHalf2x16(vec2(color.b, local.w)), floatBitsToUint(seen.z), 0u);
}`;

/** Sort keys, the nearest first: 16 bits each between the depths of `range`, two in the four bytes of a texel. */
export const KEYS = `${PASS}
uniform usampler2D secondTable;
uniform int splatCount;
uniform vec2 range;
out vec4 bytes;

vec2 key(int splat) {
  if (splat >= splatCount) { return vec2(0); }
  float depth = uintBitsToFloat(texelFetch(secondTable, place(splat), 0).z);
  uint key = uint(clamp((depth - range.x) / (range.y - range.x), 0.0, 1.0) * 65535.0);
  return vec2(key & 255u, key >> 8);
}

void main() { bytes = vec4(key(2 * pixel()), key(2 * pixel() + 1)) / 255.0; }`;

/** Four vertices a splat, in drawing order: the corners of the rectangle along its axes beyond which alpha is below 1/255. */
export const DRAW_VERTEX = `${HEAD}
uniform usampler2D firstTable, secondTable, orderTable;
uniform vec2 size;
out vec2 offset;
flat out vec4 paint;

void main() {
  int splat = int(texelFetch(orderTable, place(gl_VertexID >> 2), 0).x);
  uvec4 first = texelFetch(firstTable, place(splat), 0);
  uvec4 second = texelFetch(secondTable, place(splat), 0);
  vec2 blue_opacity = unpackHalf2x16(second.y);
  paint = vec4(unpackHalf2x16(second.x), blue_opacity);
  if (paint.a <= 0.0) { gl_Position = vec4(2, 2, 2, 1); return; }
  float reach = sqrt(2.0 * max(0.0, log(255.0 * paint.a)));
  offset = (vec2(gl_VertexID & 1, gl_VertexID >> 1 & 1) * 2.0 - 1.0) * reach;
  vec2 at = uintBitsToFloat(first.xy) + offset.x * unpackHalf2x16(first.z) + offset.y * unpackHalf2x16(first.w);
  gl_Position = vec4(at / size * 2.0 - 1.0, 0, 1);
}`;

/** Premultiplied colour, to be blended front to back. */
export const DRAW_FRAGMENT = `${HEAD}
in vec2 offset;
flat in vec4 paint;
out vec4 color;

void main() {
  float alpha = min(0.99, paint.a * exp(-0.5 * dot(offset, offset)));
  if (alpha < 1.0 / 255.0) { discard; }
  color = vec4(paint.rgb * alpha, alpha);
}`;

/** Keeps the pixels behind which nothing is seen any more. */
export const FULL = `${HEAD}
uniform sampler2D picture;

void main() {
  if (texelFetch(picture, ivec2(gl_FragCoord.xy), 0).a < 0.999) { discard; }
}`;

/** The picture on its background, both premultiplied; the picture's rows run down, those of a canvas up. */
export const COMPOSE = `${HEAD}
uniform sampler2D picture;
uniform vec4 background;
uniform bool upward;
out vec4 color;

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  if (upward) { at.y = textureSize(picture, 0).y - 1 - at.y; }
  vec4 drawn = texelFetch(picture, at, 0);
  color = min(drawn + (1.0 - drawn.a) * background, 1.0);
}`;
