# SPDX-License-Identifier: Apache-2.0
"""The training loop of the MMVDM: accelerate for devices and processes, everything else in plain sight.

What is random in a step follows from (seed, step, process), so a run that was stopped goes on as if it never had, on as many processes.
Weights, averages and moments stay float32; with bfloat16 the products alone are in it.
"""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from ..diffusion.blocks import digest_of
from ..diffusion.transformer import MVP4DTransformer3DModel
from ..errors import Cancelled, InputError, MVP4DError
from ..progress import Progress, silent
from .checkpoints import append_log, checkpoint_folders, claim_run, cut_log, load_checkpoint, save_checkpoint
from .curriculum import Curriculum
from .latents import CachedClip
from .objective import sample_losses
from .samples import BatchSource, Sample
from .stopping import stop_requests
from .validation import Validation

AHEAD = 3  # batches that are read while the model works


@dataclass(frozen=True)
class TrainSettings:
    """How a run is carried out; none of it changes what is learned, but for the precision.

    Attributes:
        device: `cpu`, or `auto` for what accelerate finds.
        precision: `bf16` or `fp32`.
        gradient_checkpointing: activations are computed again in the backward pass, for memory.
        log_every, validate_every, checkpoint_every: steps; `validate_every` 0 means never.
    """

    device: str = "cpu"
    precision: str = "bf16"
    gradient_checkpointing: bool = False
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "auto") or self.precision not in ("bf16", "fp32"):
            raise InputError(f"`device` must be cpu or auto and `precision` bf16 or fp32, got {self.device} and {self.precision}.")
        if min(self.log_every, self.checkpoint_every) < 1 or self.validate_every < 0:
            raise InputError("`log_every` and `checkpoint_every` must be positive, `validate_every` not negative.")


def train(
    transformer: MVP4DTransformer3DModel,
    clips: Mapping[int, Sequence[CachedClip]],
    heldout: Mapping[int, Sequence[CachedClip]],
    curriculum: Curriculum,
    run: str | Path,
    settings: TrainSettings | None = None,
    progress: Progress = silent,
) -> MVP4DTransformer3DModel:
    """Trains in place, from the run's last checkpoint where there is one; the returned model carries the averaged weights.

    Args:
        transformer: float32.
        clips, heldout: cached clips by their size in px; held-out ones only where `validate_every` is above 0.
        run: folder for configuration, log and checkpoints.
        progress: told `("train", step, steps)`; it may raise `Cancelled`.

    Raises:
        InputError: the data lack what the curriculum shows, or the folder holds another run.
        MVP4DError: the gradient became NaN.
        Cancelled: from `progress`, Ctrl-C or SIGTERM, after a checkpoint.
    """
    settings, run = settings or TrainSettings(), Path(run)
    # mixed precision is ours (`Loop.advance`): accelerate would replace the model's own `forward` for it
    accelerator = Accelerator(mixed_precision="no", cpu=settings.device == "cpu")
    source = BatchSource(clips, curriculum, accelerator.process_index)
    validation = Validation(heldout, curriculum) if settings.validate_every else None
    if accelerator.is_main_process:
        config = {"curriculum": curriculum.to_json(), "transformer": json.loads(transformer.to_json_string())}
        config |= {"precision": settings.precision, "processes": accelerator.num_processes, "clips": clips_digest(clips)}
        claim_run(run, config)
    accelerator.wait_for_everyone()
    loop = Loop(transformer, curriculum, run, settings, accelerator, validation)
    progress("train", loop.step, curriculum.steps)
    with stop_requests() as stop, _read_ahead(source, loop.step, curriculum.steps) as batches:
        try:
            for batch in batches:
                loop.advance(batch)
                loop.report()
                progress("train", loop.step, curriculum.steps)
                if loop.everywhere(stop.is_set()):
                    raise Cancelled(f"Stopped at step {loop.step} of {curriculum.steps}; the same command continues.")
        except MVP4DError:  # raised between steps, so the state is whole
            loop.save()
            raise
    loop.save()
    return loop.averaged()


class Loop:
    """The state of a run in memory: model, averages, optimiser, and the step they have reached."""

    def __init__(
        self,
        transformer: MVP4DTransformer3DModel,
        curriculum: Curriculum,
        run: Path,
        settings: TrainSettings,
        accelerator: Accelerator,
        validation: Validation | None,
    ) -> None:
        """From the newest checkpoint of a run, or from the weights as they are."""
        self._curriculum, self._run, self._settings = curriculum, run, settings
        self._accelerator, self._validation = accelerator, validation
        self._transformer = transformer.to(accelerator.device).train()
        if settings.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        optimizer = torch.optim.AdamW(
            transformer.parameters(), curriculum.learning_rate(0), betas=curriculum.betas, weight_decay=curriculum.weight_decay, fused=True
        )
        self._averages = EMAModel(transformer.parameters(), decay=curriculum.ema_decay, foreach=True)
        self.step, checkpoints = 0, checkpoint_folders(run)
        if checkpoints:
            self.step = load_checkpoint(checkpoints[-1], transformer, self._averages.shadow_params, optimizer)
        self._averages.optimization_step = self._saved = self.step
        if accelerator.is_main_process:
            cut_log(run, self.step)
        self._plain_optimizer = optimizer
        self._model, self._optimizer = accelerator.prepare(transformer, optimizer)
        self._recent: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._clock = time.perf_counter()

    def advance(self, batch: Sample) -> None:
        """One optimiser step."""
        for group in self._plain_optimizer.param_groups:
            group["lr"] = self._curriculum.learning_rate(self.step)
        seed = _seed_of(self._curriculum.seed, self.step, self._accelerator.process_index)
        torch.manual_seed(seed)  # for dropout layers
        batch = batch.to(self._accelerator.device, torch.float32)
        with self._autocast():
            generator = torch.Generator().manual_seed(seed)
            loss = sample_losses(self._model, batch, snr_shift=self._curriculum.snr_shift, generator=generator).mean()
        self._accelerator.backward(loss)
        norm = torch.as_tensor(self._accelerator.clip_grad_norm_(self._model.parameters(), self._curriculum.gradient_clip))
        if not torch.isfinite(norm):
            raise MVP4DError(f"The gradient became {float(norm)} at step {self.step}; begin another run with a lower --learning-rate.")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._averages.step(self._transformer.parameters())
        self._recent.append((loss.detach(), norm.detach()))
        self.step += 1

    def report(self) -> None:
        """Log line, held-out losses and checkpoint, where the step calls for them."""
        settings, last = self._settings, self.step == self._curriculum.steps
        if self.step % settings.log_every == 0 or last:
            self._log()
        if self._validation is not None and (self.step % settings.validate_every == 0 or last):
            if self._accelerator.is_main_process:
                append_log(self._run, {"step": self.step, "validation": self._validate(self._validation)})
            self._accelerator.wait_for_everyone()
        if self.step % settings.checkpoint_every == 0:
            self.save()

    def save(self) -> None:
        """A checkpoint, unless this step has one."""
        if self.step != self._saved and self._accelerator.is_main_process:
            save_checkpoint(self._run, self.step, self._transformer, self._averages.shadow_params, self._plain_optimizer)
        self._saved = self.step
        self._accelerator.wait_for_everyone()

    def averaged(self) -> MVP4DTransformer3DModel:
        """The model with the averaged weights."""
        self._averages.copy_to(self._transformer.parameters())
        return self._transformer.eval()

    def everywhere(self, flag: bool) -> bool:
        """Whether any process says so: all must leave the loop at the same step."""
        if self._accelerator.num_processes == 1:
            return flag
        return bool(torch.as_tensor(self._accelerator.reduce(torch.tensor(float(flag), device=self._accelerator.device))).item())

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16")

    def _log(self) -> None:
        now = time.perf_counter()
        loss, norm = (torch.stack(values).mean() for values in zip(*self._recent, strict=True))
        loss = torch.as_tensor(self._accelerator.reduce(loss, "mean"))
        if self._accelerator.is_main_process:
            entry = {
                "step": self.step, "loss": round(loss.item(), 6), "gradient_norm": round(norm.item(), 5),
                "learning_rate": self._curriculum.learning_rate(self.step - 1),
                "steps_per_second": round(len(self._recent) / (now - self._clock), 4), "seconds": round(now - self._clock, 2),
            }  # fmt: skip
            append_log(self._run, entry)
        self._recent, self._clock = [], now

    def _validate(self, validation: Validation) -> dict[str, float]:
        """Held-out losses of the averaged weights."""
        parameters = list(self._transformer.parameters())
        self._averages.store(parameters)
        self._averages.copy_to(parameters)
        self._transformer.eval()
        try:
            with torch.no_grad(), self._autocast():
                return validation.losses(self._transformer, self.step, self._accelerator.device)
        finally:
            self._averages.restore(parameters)
            self._transformer.train()


def clips_digest(clips: Mapping[int, Sequence[CachedClip]]) -> str:
    """Of what the cached clips of each size are made from, the VAE and the head included."""
    return digest_of([[size, sorted([clip.path.name, clip.origin] for clip in cached)] for size, cached in sorted(clips.items())])[:16]


@contextmanager
def _read_ahead(source: BatchSource, first: int, stop: int) -> Iterator[Iterator[Sample]]:
    """The batches of steps `first` to `stop`, a few of them read by a thread while the model works."""
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[Sample]] = deque()

        def batches() -> Iterator[Sample]:
            for step in range(first, stop):
                while len(waiting) < AHEAD and step + len(waiting) < stop:
                    waiting.append(reader.submit(source.batch, step + len(waiting)))
                yield waiting.popleft().result()

        try:
            yield batches()
        finally:
            for future in waiting:
                future.cancel()


def _seed_of(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
