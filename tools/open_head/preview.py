# SPDX-License-Identifier: Apache-2.0
"""Pictures of the open head in plausible colours: for MediaPipe to find its landmarks on, and for people to judge by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mvp4d_core.cameras import Camera, orbit_camera
from mvp4d_core.render.mesh import interpolate, rasterize_mesh
from mvp4d_core.rig import HeadModel

from .mesh_fields import smoothed, smoothstep, vertex_normals

SKIN, HAIR, LIP, BROW = (0.80, 0.60, 0.50), (0.23, 0.16, 0.12), (0.70, 0.36, 0.34), (0.25, 0.17, 0.13)
SCLERA, IRIS, PUPIL = (0.93, 0.92, 0.91), (0.36, 0.24, 0.15), (0.03, 0.03, 0.03)
TEETH, GUM, TONGUE, CAVITY = (0.95, 0.93, 0.87), (0.72, 0.38, 0.37), (0.75, 0.38, 0.38), (0.38, 0.12, 0.12)


@dataclass(frozen=True)
class Painter:
    """What each pixel's colour comes from: a colour a vertex, and eyebrows drawn pixel by pixel where the template has them."""

    faces: np.ndarray
    colours: np.ndarray  # (V, 3)
    template: np.ndarray  # (V, 3)
    brows: np.ndarray  # (V,) where there may be eyebrows
    eye: np.ndarray  # (3,) the left eye's centre on the template

    def draw(self, vertices: np.ndarray, camera: Camera, supersample: int = 2) -> np.ndarray:
        """(H,W,3) float32 in 0..1 on white, lit from the front and above."""
        buffers = rasterize_mesh(vertices, self.faces, camera, supersample=supersample)
        attributes = np.concatenate([self.colours, vertex_normals(vertices, self.faces), self.template, self.brows[:, None]], 1)
        pixels = interpolate(buffers, self.faces, attributes)
        normal = pixels[..., 3:6] / np.maximum(np.linalg.norm(pixels[..., 3:6], axis=-1, keepdims=True), 1e-6)
        brow = (pixels[..., 9] * brow_amount(pixels[..., 6:9].reshape(-1, 3), self.eye).reshape(pixels.shape[:2]))[..., None]
        light = np.array([0.25, 0.45, 0.86])
        shade = 0.42 + 0.62 * np.clip(normal @ light, 0, 1)
        image = np.where(buffers.mask[..., None], ((1 - brow) * pixels[..., :3] + brow * BROW) * shade[..., None], 1.0)
        height, width = camera.height, camera.width
        return np.clip(image.reshape(height, supersample, width, supersample, 3).mean((1, 3)), 0, 1).astype(np.float32)


def brow_amount(points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """How much a point (N,3) of the template is eyebrow, 0..1; `eye` is the left eye's centre."""
    across = (np.abs(points[:, 0]) - eye[0]) / 0.022  # -1 at the inner end, 1 at the outer
    height = points[:, 1] - (eye[1] + 0.0205 + 0.0025 * across - 0.0045 * across**2)
    half = 0.0032 - 0.0012 * across
    edge = smoothstep(np.abs(height), half + 0.0012, half - 0.0012) * smoothstep(np.abs(across), 1.05, 0.85)
    return 0.8 * edge


def make_painter(faces: np.ndarray, template: np.ndarray, regions: dict[str, np.ndarray]) -> Painter:
    """Colours by region."""
    colours = np.tile(np.array(SKIN), (len(template), 1))
    for colour, names in (
        (LIP, ("lips",)),
        (CAVITY, ("mouth_cavity",)),
        (TONGUE, ("tongue",)),
        (TEETH, ("upper_teeth", "lower_teeth")),
        (GUM, ("gums",)),
        (SCLERA, ("left_eyeball", "right_eyeball")),
        (IRIS, ("left_iris", "right_iris")),
        (PUPIL, ("left_pupil", "right_pupil")),
    ):
        for name in names:
            colours[regions[name]] = colour
    scalp = np.zeros(len(template))
    scalp[regions["scalp"]] = 1.0
    scalp = smoothed(scalp, faces, 1)[:, None]
    brows = np.zeros(len(template))
    brows[regions["face"]] = 1.0
    eye = template[regions["left_eyeball"]].mean(0)
    return Painter(faces, (1 - scalp) * colours + scalp * HAIR, template, brows, eye)


def portrait_camera(azimuth: float, elevation: float, size: int, *, target: tuple, reach: float) -> Camera:
    """A camera of 20 degrees (all angles in degrees) whose picture is `reach` metres high at `target` (3,)."""
    fov_y = np.radians(20.0)
    return orbit_camera(
        np.radians(azimuth), np.radians(elevation), target=np.asarray(target), distance=reach / 2 / np.tan(fov_y / 2), fov_y=fov_y,
        width=size, height=size,
    )  # fmt: skip


def sheet(cells: list[tuple[str, np.ndarray]], columns: int, path: Path) -> None:
    """Writes labelled pictures (H,W,3), all of one size, as one PNG."""
    height, width = cells[0][1].shape[:2]
    rows = -(-len(cells) // columns)
    page = Image.new("RGB", (columns * width, rows * (height + 14)), "white")
    draw = ImageDraw.Draw(page)
    for k, (label, image) in enumerate(cells):
        x, y = k % columns * width, k // columns * (height + 14)
        page.paste(Image.fromarray((image * 255 + 0.5).astype(np.uint8)), (x, y + 14))
        draw.text((x + 4, y + 1), label, fill="black")
    page.save(path)


def contact_sheet(model: HeadModel, path: Path) -> None:
    """Neutral, each expression at weight 1, and twelve random identities, in one PNG; beside it a close-up of eyes and mouth of each."""
    painter = make_painter(model.faces, model.v_template, model.regions)
    rng = np.random.default_rng(1)
    heads = [("neutral", model.v_template)]
    for k, name in enumerate(model.expression_names):
        vertices, label = model.v_template + model.exprdirs[..., k], name
        if name == "mouthClose":  # it undoes what jawOpen does to the lips
            vertices, label = vertices + model.exprdirs[..., model.expression_names.index("jawOpen")], "jawOpen + mouthClose"
        heads.append((label, vertices))
    heads += [(f"random {k}", model.v_template + model.shapedirs @ rng.normal(size=model.shapedirs.shape[2])) for k in range(12)]
    cells = []
    for k, (name, vertices) in enumerate(heads):
        azimuth = -14 if "Right" in name else 14
        if name.startswith("random"):
            azimuth = (0, 32, -32, 75)[k % 4]
        cells.append((name, painter.draw(vertices, portrait_camera(azimuth, 0, 280, target=(0, -0.012, 0.03), reach=0.31))))
    sheet(cells, 9, path)
    close = []
    for name, vertices in heads:
        for label, height in (("eyes", 0.018), ("mouth", -0.048)):
            close.append((f"{name} {label}", painter.draw(vertices, portrait_camera(8, 0, 240, target=(0, height, 0.09), reach=0.115))))
    sheet(close, 12, path.with_stem(path.stem + "_close"))
