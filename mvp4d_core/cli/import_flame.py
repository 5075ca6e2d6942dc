# SPDX-License-Identifier: Apache-2.0
"""`mvp4d import-flame FILE -o OUT.safetensors`: a licensed FLAME pickle as a head, read without running anything in it."""

import argparse
from pathlib import Path

from ..errors import InputError
from .terminal import Bars, answer

_VARIANTS = ("2020", "2023", "2023-no-jaw", "2023-open")


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "import-flame",
        help="a FLAME model as a head",
        description="generic_model.pkl, flame2023.pkl, flame2023_no_jaw.pkl or flame2023_Open.pkl as a head with 478 landmarks and "
        "a mouth. The pickle is read by a reader that can run nothing; the file stays as it is.",
    )
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.safetensors")
    command.add_argument("--variant", choices=_VARIANTS, help="which FLAME it is, if the file has another name than its own")
    command.add_argument("--masks", type=Path, help="FLAME_masks.pkl; without it regions are carried over from the open head")
    command.add_argument("--uv", type=Path, help="an .obj or .npz with texture coordinates; without it an atlas is made")
    command.add_argument("--landmarks", type=Path, help="MediaPipe's embedding (.npz) or landmark_embedding.npy; else the tracker looks")


def run(arguments: argparse.Namespace) -> None:
    """Writes the head."""
    from ..rig import head_model_digest, save_head_model
    from ..rig.flame_import import import_flame, with_landmarks

    output = arguments.output
    if output.suffix.lower() != ".safetensors":
        raise InputError(f"--output must end in .safetensors, got {output}.")
    if output.exists():
        raise InputError(f"{output} exists and is not written over. Delete it or give another name.")
    head = import_flame(arguments.file, variant=arguments.variant, uv=arguments.uv, masks=arguments.masks, landmarks=arguments.landmarks)
    if not len(head.landmark_faces):
        from ..tracking.embed_landmarks import find_landmarks

        bars = Bars()
        head = with_landmarks(head, find_landmarks(head, bars))
        bars.close()
    save_head_model(head, output)
    result = {
        "file": str(output), "head": head.name, "licence": head.licence, "vertices": len(head.v_template),
        "identities": len(head.shape_names), "expressions": len(head.expression_names), "regions": sorted(head.regions),
        "source_sha256": head.provenance["model_sha256"], "digest": head_model_digest(head),
    }  # fmt: skip
    answer(result, arguments)
