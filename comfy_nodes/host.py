# SPDX-License-Identifier: Apache-2.0
"""All that is asked of ComfyUI beyond its node schema: pictures, progress and interruption, the device, folders, metadata.

No other module of the pack imports `comfy`, `folder_paths` or `server`.
"""

import hashlib
import json
import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy.cli_args import args
from comfy_api.latest import InputImpl
from server import PromptServer

from ..mvp4d_core.errors import InputError, StorageError
from ..mvp4d_core.io.atomic import atomic_write, is_temporary
from ..mvp4d_core.player.page import FOLDER as PLAYER_FOLDER
from ..mvp4d_core.progress import Progress
from ..mvp4d_core.rig import OPEN_HEAD

if TYPE_CHECKING:
    from ..mvp4d_core.diffusion.memory import Offload

MODEL_FOLDER = "mvp4d"
PIPELINE_INDEX = "model_index.json"  # what marks the folder of a pipeline in models/mvp4d
EXAMPLE_INPUTS = Path(__file__).parent.parent / "workflows" / "inputs"
SAME_FROM_EDGE_TO_EDGE = 1e-6
PREVIEW_VIEWS, PREVIEW_WIDTH = 4, 512

_log = logging.getLogger("MVP4D")


class ProgressBar:
    """The core's progress as the running node's bar, one pass a stage. Raises ComfyUI's own interruption when the user cancels."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._preview: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if total < 1:
            return
        if self._bar is None or stage != self._stage:
            self._bar, self._stage = comfy.utils.ProgressBar(total), stage
        self._bar.update_absolute(done, total, self._preview)
        self._preview = None

    def preview(self, step: int, pictures: torch.Tensor) -> None:
        """Shows rough pictures (V, L, h, w, 3) in 0..1 on the node, with the next progress: the last views, which are new, at the end."""
        row = torch.cat([*pictures[-PREVIEW_VIEWS:, -1].float().cpu()], dim=1)
        self.show(row.clamp(0, 1).mul(255).to(torch.uint8).numpy())

    def show(self, picture: np.ndarray) -> None:
        """Shows a picture (H, W, 3) uint8 on the node, with the next progress."""
        from PIL import Image

        self._preview = ("JPEG", Image.fromarray(picture), PREVIEW_WIDTH)


def tell(node_id: object, text: str) -> None:
    """A line for the user: on the running node and in the log."""
    _log.warning(text)
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(text, str(node_id))


def training() -> AbstractContextManager:
    """ComfyUI runs nodes in inference mode, where nothing has a gradient; a node that fits something leaves it for that time."""
    return torch.inference_mode(False)


def model_device() -> torch.device:
    """ComfyUI's device where it is of CUDA, otherwise the CPU."""
    device = comfy.model_management.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


def render_device() -> torch.device:
    """ComfyUI's device where its rasteriser works, otherwise the CPU."""
    from ..mvp4d_core.render import gsplat_backend

    device = model_device()
    usable = device.type == "cuda" and gsplat_backend.why_unusable(device.index or 0) is None
    return device if usable else torch.device("cpu")


def check_memory(what: str, count: int, bytes_each: int) -> None:
    """Raises InputError where `count` of something can't be held in main memory."""
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    if count * bytes_each > free:
        needed = f"{count:,} {what} need {count * bytes_each / 1e9:.1f} GB of memory"
        raise InputError(f"{needed}, and {free / 1e9:.1f} GB are free. Take fewer or smaller ones.")


def photo_from_image(image: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    """One IMAGE as colours (H, W, 3) and alpha (H, W) or None, float32 in 0..1.

    Raises:
        InputError: a batch of several pictures, or channels other than 3 and 4.
    """
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[3] not in (3, 4):
        raise InputError(
            f"`image` must be one colour picture, got {tuple(image.shape)}. Take one of a batch with the node `Get Image from Batch`."
        )
    pixels = image[0].detach().to("cpu", torch.float32).clamp(0, 1).numpy()
    return np.ascontiguousarray(pixels[..., :3]), pixels[..., 3].copy() if pixels.shape[2] == 4 else None


def alpha_from_mask(mask: torch.Tensor | None, height: int, width: int, *, marks_background: bool) -> np.ndarray | None:
    """One MASK as the alpha (H, W) of a photo; None for no mask and for one that is the same everywhere.

    `Load Image` gives such an even mask of 64 x 64 px for a picture without transparency.
    """
    if mask is None:
        return None
    pixels = mask.detach().to("cpu", torch.float32).clamp(0, 1).numpy().reshape(-1, *mask.shape[-2:])
    if np.ptp(pixels) < SAME_FROM_EDGE_TO_EDGE:
        return None
    if pixels.shape != (1, height, width):
        raise InputError(f"`mask` must be one mask of the photo's {width} x {height} px, got {tuple(mask.shape)}. Resize it first.")
    return 1 - pixels[0] if marks_background else pixels[0]


def image_from_arrays(pictures: np.ndarray) -> torch.Tensor:
    """(..., H, W, 3) uint8 or float in 0..1 as an IMAGE (B, H, W, 3)."""
    return _socket_tensor(pictures.reshape(-1, *pictures.shape[-3:]))


def mask_from_arrays(alphas: np.ndarray) -> torch.Tensor:
    """(..., H, W) uint8 or float in 0..1 as a MASK (B, H, W), 1 where the head is."""
    return _socket_tensor(alphas.reshape(-1, *alphas.shape[-2:]))


def _socket_tensor(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    tensor = tensor.to(torch.float32).div_(255) if tensor.dtype == torch.uint8 else tensor.to(torch.float32)
    return tensor.to(comfy.model_management.intermediate_device())


def register_model_folder() -> None:
    """Makes `models/mvp4d` a folder that users can move with `extra_model_paths.yaml`."""
    folder_paths.add_model_folder_path(MODEL_FOLDER, str(Path(folder_paths.models_dir) / MODEL_FOLDER))


def serve_player() -> None:
    """Lets the page load the player's modules and style sheet, from /mvp4d/player/."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.static("/mvp4d/player", PLAYER_FOLDER)


def install_example_inputs() -> None:
    """Copies what the example workflows load into the input folder, where ComfyUI's loaders look; what is there stays."""
    for source in sorted(EXAMPLE_INPUTS.iterdir()):
        target = Path(folder_paths.get_input_directory()) / source.name
        if not target.exists():
            try:
                with atomic_write(target) as file:
                    file.write(source.read_bytes())
            except StorageError as problem:
                _log.warning("Example workflows will miss an input: %s", problem)


def head_names() -> list[str]:
    """The built-in head and the heads in `models/mvp4d`."""
    register_model_folder()
    pipelines = tuple(f"{name}/" for name in pipeline_names())
    files = [name for name in folder_paths.get_filename_list(MODEL_FOLDER) if name.endswith(".safetensors")]
    return [OPEN_HEAD, *(name for name in files if not name.replace("\\", "/").startswith(pipelines))]


def pipeline_names() -> list[str]:
    """The folders in `models/mvp4d` that hold a pipeline."""
    register_model_folder()
    names = [name.replace("\\", "/") for name in folder_paths.get_filename_list(MODEL_FOLDER)]
    return [name.removesuffix(f"/{PIPELINE_INDEX}") for name in names if name.endswith(f"/{PIPELINE_INDEX}")]


def pipeline_folder(name: str) -> Path:
    """Where a pipeline of `pipeline_names` is."""
    return Path(folder_paths.get_full_path_or_raise(MODEL_FOLDER, f"{name}/{PIPELINE_INDEX}")).parent


def folder_state(folder: Path) -> str:
    """Changes when a file in the folder does; for `fingerprint_inputs`."""
    return " ".join(_state(path) for path in sorted(folder.rglob("*")) if path.is_file())


def head_source(name: str) -> str:
    """What `rig.load_head_model` takes for a name of `head_names`."""
    return name if name == OPEN_HEAD else folder_paths.get_full_path_or_raise(MODEL_FOLDER, name)


def head_state(name: str) -> str:
    """Changes when the head's file does; for `fingerprint_inputs`."""
    return "" if name == OPEN_HEAD else _state(Path(head_source(name)))


def files_ending_in(*endings: str, folders: tuple[str, ...] = ("input", "output")) -> list[str]:
    """Names of the files under these folders, as `Load Image` writes them: those of the output folder end in ` [output]`."""
    known = {"input": (folder_paths.get_input_directory(), ""), "output": (folder_paths.get_output_directory(), " [output]")}
    return [
        path.relative_to(place).as_posix() + label
        for place, label in (known[name] for name in folders)
        for path in sorted(Path(place).rglob("*"))
        if path.name.lower().endswith(endings) and path.is_file() and not is_temporary(path)
    ]


def file_path(name: str) -> Path:
    """Where a name of `files_ending_in` is.

    Raises:
        InputError: it is not there, or it is outside input/ and output/.
    """
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(f"No file `{name}` in ComfyUI's input or output folder. Put it there and press R to refresh the node.")
    return Path(folder_paths.get_annotated_filepath(name))


def file_state(name: str) -> str:
    """Changes when the file does; for `fingerprint_inputs`."""
    return _state(file_path(name))


def _state(path: Path) -> str:
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def output_path(prefix: str, suffix: str) -> Path:
    """A new numbered name under output/, in a folder that exists.

    Raises:
        InputError: the prefix names no file or leads out of the output folder.
    """
    output = folder_paths.get_output_directory()
    if prefix.endswith(("/", "\\")) or Path(output).resolve() not in (Path(output) / prefix).resolve().parents:
        raise InputError(f"`filename_prefix` must be a name inside the output folder, got `{prefix}`. Use one such as mvp4d/avatar.")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    return Path(folder) / f"{name}_{counter:05}_{suffix}"


def blender_folder() -> Path:
    """Where avatars for the Blender add-on lie: it watches this folder."""
    return Path(folder_paths.get_output_directory()) / "mvp4d" / "blender"


def temporary_path(name: str) -> Path:
    """A file in a folder of our own under temp/, which ComfyUI empties when it starts; the folder exists."""
    path = Path(folder_paths.get_temp_directory()) / "mvp4d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def saved_result(path: Path) -> dict[str, str]:
    """A file under output/ or temp/ as ComfyUI's history and /view name it."""
    temporary = path.is_relative_to(folder_paths.get_temp_directory())
    place = folder_paths.get_temp_directory() if temporary else folder_paths.get_output_directory()
    subfolder = path.relative_to(place).parent.as_posix()
    return {"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": "temp" if temporary else "output"}


def workflow_texts(hidden: Any) -> dict[str, str]:
    """The prompt and the workflow as JSON texts for a saved file; empty where ComfyUI runs with --disable-metadata."""
    if args.disable_metadata or hidden is None:
        return {}
    texts = {} if hidden.prompt is None else {"prompt": json.dumps(hidden.prompt)}
    return texts | {key: json.dumps(value) for key, value in (hidden.extra_pnginfo or {}).items()}


def memory_budget_gb() -> float | None:
    """Memory (2^30 bytes) of ComfyUI's graphics card that models may use; None on the CPU."""
    device = model_device()
    if device.type == "cpu":
        return None
    return (comfy.model_management.get_total_memory(device) - comfy.model_management.extra_reserved_memory()) / 2**30


def least_offload() -> "Offload":
    """The offloading that ComfyUI was started for: --lowvram keeps one part on the card at a time, --novram one layer."""
    states = comfy.model_management.VRAMState
    asked: dict[Any, Offload] = {states.LOW_VRAM: "model", states.NO_VRAM: "sequential"}
    return asked.get(comfy.model_management.vram_state, "none")


def managed(model: torch.nn.Module) -> Any:
    """A model on the CPU under ComfyUI's memory management, which brings it to the card and takes it off for others."""
    offload = comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=model_device(), offload_device=offload)


def bring_to_device(model: Any, activations: int) -> None:
    """Brings what `managed` gave to ComfyUI's device, with room for so many bytes beside it."""
    comfy.model_management.load_models_gpu([model], memory_required=activations, force_full_load=True)


def clear_card() -> None:
    """Takes all models that ComfyUI manages off the graphics card, which something of ours is about to fill."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def video_file(video: Any, progress: Progress) -> Path:
    """The file of a VIDEO; frames that have none, or a part of a file, are written without loss under temp/ first."""
    if isinstance(video, InputImpl.VideoFromFile) and not any(video.get_active_trim_window()):
        source = video.get_stream_source()
        if isinstance(source, str):
            return Path(source)
    from ..mvp4d_core.io.video import LOSSLESS, write_video

    components = video.get_components()
    frames = components.images.detach().to("cpu", torch.float32).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    digest = hashlib.sha256(frames.tobytes()).hexdigest()[:16]
    path = temporary_path(f"videos/{digest}_{float(components.frame_rate):g}.mp4")
    if not path.exists():
        write_video(path, frames[..., :3], float(components.frame_rate), progress, quality=LOSSLESS)
    return path


def sound_from_audio(audio: Any) -> tuple[np.ndarray, int]:
    """The mean of an AUDIO's channels (N,) float32, and samples a second.

    Raises:
        InputError: several sounds, or none.
    """
    waveform = audio["waveform"]
    if waveform.ndim != 3 or waveform.shape[0] != 1 or not waveform.numel():
        raise InputError(f"`audio` must be one sound, got {tuple(waveform.shape)}. Load one file with the node `Load Audio`.")
    return waveform[0].detach().to("cpu", torch.float32).mean(dim=0).numpy(), int(audio["sample_rate"])
