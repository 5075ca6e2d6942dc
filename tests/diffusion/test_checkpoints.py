# SPDX-License-Identifier: Apache-2.0
"""Every way of saving and loading weights gives diffusers' output; every damaged one, a line."""

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mvp4d_core.diffusion.bench import TOY, inputs, twins
from mvp4d_core.diffusion.checkpoints import INDEX, WEIGHTS, load_transformer, load_vae
from mvp4d_core.diffusion.transformer import MVP4DTransformer3DModel
from mvp4d_core.errors import FormatError, InputError, MissingAssetError, MVP4DError
from tests.support.cogvideox_original import original_state
from tests.support.toy_mmvdm import toy_vae

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stock():
    """diffusers' model, and what it returns for an input."""
    theirs, _ = twins(TOY, CPU, torch.float32)
    latents, timestep, text = inputs((2, 5, 4, 10), theirs, CPU, torch.float32)
    with torch.no_grad():
        return theirs, (latents, timestep, text), theirs(latents, text, timestep).sample


@pytest.fixture(scope="module")
def saved(stock, tmp_path_factory):
    """The stock model in every layout."""
    root, theirs = tmp_path_factory.mktemp("saved"), stock[0]
    state = theirs.state_dict()
    theirs.save_pretrained(root / "folder")
    theirs.save_pretrained(root / "sharded", max_shard_size="60KB")
    theirs.save_pretrained(root / "pipeline" / "transformer")
    save_file(state, root / "single.safetensors")
    save_file(original_state(state, TOY["num_layers"]), root / "original.safetensors")
    load_transformer(root / "folder").save_pretrained(root / "ours")
    load_transformer(root / "folder").save_pretrained(root / "ours_sharded", max_shard_size="60KB")
    assert (root / "sharded" / INDEX).is_file() and (root / "ours_sharded" / INDEX).is_file()
    return root


@pytest.fixture
def copy(saved, tmp_path):
    """A folder to damage."""
    return shutil.copytree(saved / "ours", tmp_path / "model")


def parity(stock, model) -> float:
    _, (latents, timestep, text), expected = stock
    with torch.no_grad():
        found = model(latents[:, None], timestep, encoder_hidden_states=text).sample[:, 0]
    return ((found - expected).abs().max() / expected.abs().max()).item()


LAYOUTS = ["folder", "sharded", "pipeline", "single.safetensors", "original.safetensors", "ours", "ours_sharded", f"ours/{WEIGHTS}"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_returns_what_diffusers_returns_from_every_layout(stock, saved, layout):
    model = load_transformer(saved / layout)
    assert parity(stock, model) <= 1e-5
    assert not model.training and not any(p.is_meta for p in model.parameters()) and all(p.requires_grad for p in model.parameters())
    assert not model.patch_embed.map_proj.weight.any()


def test_is_read_by_diffusers_own_loader_too(stock, saved):
    assert parity(stock, MVP4DTransformer3DModel.from_pretrained(saved / "ours")) <= 1e-5


def test_a_text_free_model_of_stock_weights_returns_what_the_whole_one_does_without_text(stock, saved):
    whole, less = load_transformer(saved / "folder"), load_transformer(saved / "original.safetensors", drop_text=True)
    latents, timestep, _ = stock[1]
    with torch.no_grad():
        assert torch.equal(less(latents[:, None], timestep).sample, whole(latents[:, None], timestep).sample)
    assert less.config.text_embed_dim is None and less.num_parameters() < whole.num_parameters()


def test_weights_become_the_dtype_asked_for_and_are_copies(saved, copy):
    assert {p.dtype for p in load_transformer(saved / "folder", dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    model = load_transformer(copy)
    model.save_pretrained(copy)  # over the very file they came from
    assert parity_of_states(model, load_transformer(copy))


def parity_of_states(first, second) -> bool:
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def rewrite(folder, change):
    """Saves the folder's tensors again after `change` of the dict."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def edit(folder, **changes):
    """Changes values of config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def without(*names):
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def put(name, tensor):
    return lambda state: state | {name: tensor}


QUERY, NORM = "transformer_blocks.1.attn1.to_q.weight", "transformer_blocks.0.attn1.norm_q.weight"
DAMAGES = {
    "missing": (lambda f: rewrite(f, without(QUERY)), f"lacks weights: {QUERY}"),
    "missing_block": (lambda f: rewrite(f, lambda s: {n: t for n, t in s.items() if "blocks.1." not in n}), "has 2 blocks of 3"),
    "another_model": (lambda f: rewrite(f, without("patch_embed.proj.weight")), "another model: a CogVideoX transformer has"),
    "unexpected": (lambda f: rewrite(f, put("surplus", torch.zeros(1))), "has unexpected weights: surplus"),
    "shape": (lambda f: rewrite(f, put(QUERY, torch.zeros(32, 16))), r"of shape \(32, 16\), it must be \(32, 32\)"),
    "dimensions": (lambda f: rewrite(f, put(NORM, torch.zeros(2, 16))), "must have 1 dimensions"),
    "nan": (lambda f: rewrite(f, put(QUERY, torch.full((32, 32), torch.nan))), f"values in {QUERY} that are NaN"),
    "infinite": (lambda f: rewrite(f, put(QUERY, torch.full((32, 32), -torch.inf))), f"values in {QUERY} that are NaN"),
    "integers": (lambda f: rewrite(f, put(QUERY, torch.zeros(32, 32, dtype=torch.int8))), "weights must be F16, BF16 or F32"),
    "truncated": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-100]), "not a whole safetensors file"),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "not a whole safetensors file"),
    "config_json": (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    "config_list": (lambda f: (f / "config.json").write_text("[]"), "must hold a JSON object"),
    "config_class": (lambda f: edit(f, _class_name="FluxTransformer2DModel"), "another model: `_class_name` must be"),
    "config_rotary": (lambda f: edit(f, use_rotary_positional_embeddings=True), "another model: config.json has use_rotary"),
    "config_layers": (lambda f: edit(f, num_layers=4), "says num_layers = 4, its tensors say 3"),
    "config_kind": (lambda f: edit(f, norm_eps="small"), "norm_eps = 'small', which is not a value like"),
    "config_huge": (lambda f: edit(f, sample_width=10**30), "sample_width"),
    "config_activation": (lambda f: edit(f, activation_fn="step"), "cannot be built"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_names_what_is_wrong_in_one_line(copy, damage):
    change, message = DAMAGES[damage]
    change(copy)
    with pytest.raises(FormatError, match=message) as caught:
        load_transformer(copy)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 and str(caught.value).startswith(str(copy))


def test_refuses_other_models_of_the_family(stock, saved, tmp_path):
    state = original_state(stock[0].state_dict(), TOY["num_layers"])
    save_file(state | {"model.diffusion_model.mixins.pos_embed.freqs_sin": torch.zeros(1)}, tmp_path / "5b.safetensors")
    with pytest.raises(FormatError, match="rotary positions, as CogVideoX-5B"):
        load_transformer(tmp_path / "5b.safetensors")
    state = dict(stock[0].state_dict())
    state["patch_embed.proj.weight"] = torch.zeros(32, 32, 2, 2)
    save_file(state, tmp_path / "i2v.safetensors")
    with pytest.raises(FormatError, match="it takes 32 channels and gives 16, as one that animates pictures"):
        load_transformer(tmp_path / "i2v.safetensors")
    with pytest.raises(FormatError, match="`_class_name` must be AutoencoderKLCogVideoX"):
        load_vae(saved / "folder")


@pytest.mark.parametrize("name", ["model.ckpt", "weights.bin", "a.pt"])
def test_never_opens_a_pickle(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(FormatError, match=r"pickled code and is not opened.*safe_serialization"):
            load_transformer(path)


def test_says_what_is_missing(saved, copy, tmp_path):
    for path, message in ((tmp_path / "nowhere", "no such file or folder"), (tmp_path, "neither diffusion_pytorch_model")):
        for load in (load_transformer, load_vae):
            with pytest.raises(MissingAssetError, match=message):
                load(path)
    (copy / "config.json").unlink()
    for path in (copy, copy / WEIGHTS):
        with pytest.raises(MissingAssetError, match=r"lacks config.json"):
            load_transformer(path)
    sharded = shutil.copytree(saved / "sharded", tmp_path / "sharded")
    next(sharded.glob("*-00002-*")).unlink()
    with pytest.raises(MissingAssetError, match=r"lacks the shard .*-00002-"):
        load_transformer(sharded)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FormatError, match="is no safetensors file"):
        load_transformer(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "c:\\d.safetensors", "pickle.bin"])
def test_an_index_names_no_file_elsewhere(saved, tmp_path, name):
    folder = shutil.copytree(saved / "sharded", tmp_path / "sharded")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"patch_embed.proj.weight": name}}))
    with pytest.raises(FormatError, match=r"must be a .safetensors file in the same folder"):
        load_transformer(folder)


def test_a_config_too_large_to_be_one_is_not_read(copy):
    (copy / "config.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(InputError, match="more than the 1,048,576"):
        load_transformer(copy)


def test_a_value_beyond_the_dtype_asked_for_is_refused(copy):
    rewrite(copy, lambda state: state | {QUERY: state[QUERY] * 1e7})
    load_transformer(copy)
    with pytest.raises(FormatError, match=r"beyond torch.float16"):
        load_transformer(copy, dtype=torch.float16)


def test_the_autoencoder_comes_back_the_same(tmp_path):
    vae, latents = toy_vae(), torch.randn(1, 4, 2, 4, 4)
    vae.save_pretrained(tmp_path / "vae")
    for path in (tmp_path, tmp_path / "vae"):
        with torch.no_grad():
            assert torch.equal(load_vae(path).decode(latents).sample, vae.decode(latents).sample)
    edit(tmp_path / "vae", latents_mean=[-1.5, 0, 2, 0.1], latents_std=[0.5, 1, 2, 3.0])
    assert load_vae(tmp_path).config["latents_mean"] == [-1.5, 0, 2, 0.1]
    for changes, message in (
        ({"block_out_channels": [4, 4, 4, 16]}, "of shape"), ({"layers_per_block": 60000}, "more layers than"),
        ({"down_block_types": ["Strange"] * 4}, "cannot be built"), ({"norm_num_groups": 3}, "cannot be built"),
        ({"latents_std": [1.0, 1.0, 0.0, 1.0]}, "latents_std"), ({"latents_mean": [0.1] * 5}, "5 numbers"),
        ({"latents_mean": "a"}, "not a value"),
    ):  # fmt: skip
        shutil.copytree(tmp_path / "vae", tmp_path / "bad", dirs_exist_ok=True)
        edit(tmp_path / "bad", **changes)
        with pytest.raises(FormatError, match=message):
            load_vae(tmp_path / "bad")


@settings(max_examples=60)
@given(st.data())
def test_any_damage_gives_a_model_or_one_of_our_errors(saved, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(saved / "ours", folder)
    path = folder / data.draw(st.sampled_from([WEIGHTS, "config.json"]))
    content = bytearray(path.read_bytes())
    end = len(content) if path.suffix == ".json" else 8 + int.from_bytes(content[:8], "little")  # of what says how to read the rest
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(end, len(content)) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    try:
        load_transformer(folder)
    except MVP4DError as error:
        assert str(error) and str(error).count("\n") == 0


@settings(max_examples=40)
@given(
    st.sampled_from(["num_layers", "patch_size", "activation_fn", "text_embed_dim", "norm_eps", "dropout", "freq_shift", "map_channels",
                     "timestep_activation_fn", "flip_sin_to_cos", "sample_frames", "unknown"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2),
)  # fmt: skip
def test_any_value_in_the_config_gives_a_model_or_one_of_our_errors(saved, tmp_path_factory, key, value):
    folder = tmp_path_factory.mktemp("fuzz") / "model"
    shutil.copytree(saved / "ours", folder)
    edit(folder, **{key: value})
    try:
        load_transformer(folder)
    except MVP4DError as error:
        assert str(error) and str(error).count("\n") == 0
