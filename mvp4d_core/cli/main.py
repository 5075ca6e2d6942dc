# SPDX-License-Identifier: Apache-2.0
"""The `mvp4d` command. Each subcommand is one file with `add(subparsers)` and `run(arguments)`; heavy imports happen in `run`."""

import argparse
import contextlib
import importlib
import keyword
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import MVP4DError
from .terminal import say

COMMANDS = (
    "create", "demo", "track", "track-video", "speech", "performance", "animate", "render", "export", "import",
    "import-track", "export-track", "import-flame", "info", "doctor", "bench", "train", "evaluate", "memory",
)  # fmt: skip
NEEDED = {"torch", "numba", "scipy", "PIL", "av", "tqdm", "trimesh", "diffusers", "safetensors", "accelerate"}
EXTRA_OF = {"train": "train", "create": "track", "track": "track", "demo": "demo"}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="mvp4d", description="One portrait photo in, an animatable 4D Gaussian head avatar out.")
    top.add_argument("--version", action="version", version=f"mvp4d {__version__}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = importlib.import_module(f".{name}_" if keyword.iskeyword(name) else f".{name.replace('-', '_')}", __package__)
        command.add(subparsers)
        subparsers.choices[name].add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
        subparsers.choices[name].set_defaults(run=command.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, or what went wrong: 2 a bad argument or input, 3 a damaged or hostile file, 4 something missing, 5 no usable face, 6 a path that
        can't be read or written, 1 anything else, 130 stopped by Ctrl-C.
    """
    arguments = parser().parse_args(argv)
    # torch's idle threads would otherwise spin on the cores that the rasteriser's threads work on; read when torch is first imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        arguments.run(arguments)
        return 0
    except MVP4DError as error:
        say(f"mvp4d: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("mvp4d: stopped. Finished stages are kept; the same command continues.")
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        say("mvp4d: out of memory. Use fewer views, frames or splats, a smaller --size, or a smaller photo.")
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEEDED:
            raise
        extra = EXTRA_OF.get(arguments.command, "torch")
        say(f"mvp4d: this command needs the package {error.name}. Install it with: pip install 'mvp4d[{extra}]'")
        return 4
    except OSError as error:
        say(f"mvp4d: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        return 6


if __name__ == "__main__":
    sys.exit(main())
