# SPDX-License-Identifier: Apache-2.0
"""`mvp4d info FILE`: what a file of the suite holds."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import FormatError
from .terminal import answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("info", help="what a file holds", description="What an avatar, head, performance or PLY holds.")
    command.add_argument("file", type=Path)
    command.add_argument("--rig", metavar="HEAD", help="the head's .safetensors, for an avatar that does not carry its own")


def run(arguments: argparse.Namespace) -> None:
    """Answers with the file's contents in short."""
    from ..avatar import load_avatar
    from ..avatar.gaussian_avatars import BINDING
    from ..avatar.ply_tables import contents
    from ..avatar.posed_files import SPLAT_ENDINGS, read_splats
    from ..io import safetensors_numpy
    from ..rig import load_head_model, load_performance

    if (ending := arguments.file.suffix.lower()) in SPLAT_ENDINGS:
        elements = contents(arguments.file) if ending == ".ply" else {}
        kind = "3DGS PLY" if ending == ".ply" else f"splats ({ending[1:]})"
        if "base_vertex" in elements:
            kind = "CAP4D animation PLY"
        elif BINDING in elements.get("vertex", ()):
            kind = "GaussianAvatars PLY"
        splats = read_splats(arguments.file)
        answer({"kind": kind, "splats": len(splats.means), "sh_degree": round((splats.shN.shape[1] + 1) ** 0.5) - 1}, arguments)
        return
    schema = safetensors_numpy.read(arguments.file)[1].get("schema", "")
    result: dict[str, Any]
    if schema.startswith("mvp4d-avatar/"):
        avatar = load_avatar(arguments.file, head_model=load_head_model(arguments.rig) if arguments.rig else None)
        result = {
            "kind": "avatar",
            "splats": len(avatar),
            "sh_degree": avatar.sh_degree,
            "head": avatar.rig.name,
            "head_licence": avatar.rig.licence,
            "vertices": len(avatar.rig.v_template),
            "triangles": len(avatar.rig.faces),
            "joints": list(avatar.rig.joint_names),
            "expressions": list(avatar.rig.expression_names),
            **avatar.metadata,
        }
    elif schema.startswith("mvp4d-head/"):
        model = load_head_model(arguments.file)
        result = {
            "kind": "head",
            "name": model.name,
            "licence": model.licence,
            "vertices": len(model.v_template),
            "triangles": len(model.faces),
            "identities": len(model.shape_names),
            "joints": list(model.joint_names),
            "expressions": list(model.expression_names),
            "regions": sorted(model.regions),
            **model.provenance,
        }
    elif schema.startswith("mvp4d-performance/"):
        performance = load_performance(arguments.file)
        seconds = len(performance) / performance.fps
        result = {"kind": "performance", "frames": len(performance), "fps": performance.fps, "seconds": seconds}
    else:
        raise FormatError(
            f"{arguments.file.name} is a safetensors file, but no avatar, head or performance: its schema is `{schema or 'none'}`."
        )
    answer(result, arguments)
