# SPDX-License-Identifier: Apache-2.0
"""LPIPS against a numpy version of the definition, on networks of the published layouts with random weights, and its files."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from mvp4d_core.errors import FormatError, InputError, StorageError
from mvp4d_core.evaluation.lpips import load_lpips
from mvp4d_core.evaluation.weights import read_weights
from mvp4d_core.io import safetensors_numpy
from tests.support.mutation import assert_refuses_cleanly
from tests.support.toy_lpips import NETWORKS, random_weights


def numpy_lpips(image: np.ndarray, target: np.ndarray, backbone: str, weights: dict[str, np.ndarray]) -> float:
    """The definition on (H, W, 3) pictures in 0..1."""

    def features(picture):
        x = (2 * picture - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        for index, _, kernel, stride, padding, pool, compared in NETWORKS[backbone]:
            if pool:
                x = sliding_window_view(x, (pool, pool), axis=(0, 1))[::2, ::2].max(axis=(-2, -1))
            windows = sliding_window_view(np.pad(x, ((padding,) * 2, (padding,) * 2, (0, 0))), (kernel, kernel), axis=(0, 1))[
                ::stride, ::stride
            ]
            x = np.tensordot(windows, weights[f"features.{index}.weight"], axes=((2, 3, 4), (1, 2, 3))) + weights[f"features.{index}.bias"]
            x = np.maximum(x, 0)
            if compared:
                yield x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)

    total = 0.0
    for level, (a, b) in enumerate(zip(features(image), features(target), strict=True)):
        total += float((((a - b) ** 2) @ weights[f"lin{level}.model.1.weight"].ravel()).mean())
    return total


@pytest.mark.parametrize(("backbone", "shape"), [("alex", (67, 63)), ("vgg", (32, 18))])
def test_lpips_is_the_definition_in_numpy(backbone, shape, tmp_path):
    features, heads = random_weights(backbone)
    torch.save({name: torch.as_tensor(array) for name, array in features.items()}, tmp_path / "backbone.pth")
    safetensors_numpy.write(tmp_path / "heads.safetensors", heads)
    measure = load_lpips([tmp_path / "backbone.pth", tmp_path / "heads.safetensors"])
    assert measure.backbone == backbone and "backbone.pth" in measure.name
    rng = np.random.default_rng(1)
    image, target = rng.random((2, 2, *shape, 3))
    found = measure(torch.as_tensor(image).float(), torch.as_tensor(target).float())
    expected = [numpy_lpips(a, b, backbone, features | heads) for a, b in zip(image, target, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert torch.equal(measure(found.new_tensor(image), found.new_tensor(image)), torch.zeros(2))


def test_one_file_with_the_names_of_lpips_gives_the_same(tmp_path):
    features, heads = random_weights("alex")
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    whole = {f"net.slice{slices[int(name.split('.')[1])]}.{name.removeprefix('features.')}": array for name, array in features.items()}
    safetensors_numpy.write(tmp_path / "whole.safetensors", whole | heads | {"scaling_layer.shift": np.zeros((1, 3, 1, 1), np.float32)})
    safetensors_numpy.write(tmp_path / "parts.safetensors", features | heads)
    image, target = torch.rand(2, 1, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    first, second = (load_lpips([tmp_path / f"{name}.safetensors"]) for name in ("whole", "parts"))
    assert torch.equal(first(image, target), second(image, target))


def test_lpips_pulls_the_image_and_stays_finite_on_empty_features(tmp_path):
    features, heads = random_weights("alex")
    features["features.10.bias"][:] = -1e4  # no feature of the last layer is left
    safetensors_numpy.write(tmp_path / "w.safetensors", features | heads)
    measure = load_lpips([tmp_path / "w.safetensors"])
    image = torch.full((1, 40, 40, 3), 0.5, requires_grad=True)
    measure(image, torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert image.grad is not None and image.grad.isfinite().all() and image.grad.abs().max() > 0
    assert not list(measure.parameters())


def test_incomplete_or_strange_weights_are_refused_by_name(tmp_path):
    features, heads = random_weights("alex")
    path = tmp_path / "w.safetensors"
    cases = [
        (features, "linear head `lin0"),
        (heads, "neither AlexNet nor VGG-16"),
        ({**features, **heads, "features.6.weight": heads["lin0.model.1.weight"]}, "features.6.weight"),
        ({**features, **heads, "features.0.weight": features["features.0.weight"][:32]}, "(64, 3, 11, 11)"),
    ]
    for tensors, message in cases:
        safetensors_numpy.write(path, tensors)
        with pytest.raises(FormatError) as error:
            load_lpips([path])
        assert message in str(error.value) and "w.safetensors" in str(error.value)
    with pytest.raises(StorageError):
        load_lpips([tmp_path / "none.pth"])
    safetensors_numpy.write(path, features | heads)
    with pytest.raises(InputError, match="31 px"):
        load_lpips([path])(torch.zeros(1, 30, 64, 3), torch.zeros(1, 30, 64, 3))


def test_state_dicts_are_read_and_code_is_not(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"extractor": {"a.weight": torch.ones(2), "step": torch.tensor(3)}, "epoch": 1}, path)
    found = read_weights([path])
    assert list(found) == ["a.weight"] and torch.equal(found["a.weight"], torch.ones(2))
    for content in (torch.nn.Linear(2, 2), [1, 2], {"a": 1}):
        torch.save(content, path)
        with pytest.raises(FormatError, match="state dict"):
            read_weights([path])


def test_damaged_weights_are_refused_cleanly(tmp_path):
    torch.save({"features.0.weight": torch.arange(64.0), "b": torch.zeros(3, 4)}, tmp_path / "sound.pth")
    sound = (tmp_path / "sound.pth").read_bytes()
    assert assert_refuses_cleanly(lambda path: read_weights([path]), sound, tmp_path / "w.pth", 150) > 75
