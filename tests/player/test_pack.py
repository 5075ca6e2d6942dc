# SPDX-License-Identifier: Apache-2.0
"""What travels to the player, and the page that carries it."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from safetensors.numpy import load as load_official

from mvp4d_core.cli.main import main
from mvp4d_core.errors import InputError
from mvp4d_core.player import pack_avatar, player_page, write_page
from mvp4d_core.player.pack import LEAST_OFFSET
from mvp4d_core.player.page import FOLDER, linked_script
from mvp4d_core.rig import showcase_performance
from tests.support.toy_avatar import toy_avatar

HOSTILE = '</script><img src=x onerror="globalThis.owned=1">\'"&${title}'


@pytest.fixture(scope="module")
def avatar():
    return toy_avatar(300, sh_degree=2)


def unpacked(packed: bytes) -> tuple[dict[str, np.ndarray], dict]:
    data = gzip.decompress(packed)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load_official(data), json.loads(header["__metadata__"]["player"])


def test_holds_the_avatar_to_half_precision(avatar):
    performance = showcase_performance(avatar.rig).select(slice(0, 5))
    tensors, texts = unpacked(pack_avatar(avatar, performance, title="Ada"))
    order = np.argsort(avatar.binding, kind="stable")
    assert np.array_equal(np.cumsum(tensors["binding_steps"]), avatar.binding[order])
    for name in ("means", "quats", "log_scales"):
        assert np.abs(tensors[name] - getattr(avatar, name)[order]).max() < 4e-3, name
    assert np.abs(tensors["sh"][:, 1:] - avatar.shN[order]).max() < 2e-3
    assert np.abs(tensors["opacities"] - 1 / (1 + np.exp(-avatar.opacity_logits[order]))).max() < 1e-3
    assert np.array_equal(tensors["expression"], performance.expression)
    assert (
        texts["title"] == "Ada" and texts["expression_names"] == list(avatar.rig.expression_names) and texts["expression_range"] == [0, 1]
    )


def test_sparse_directions_are_all_that_move(avatar):
    tensors, _ = unpacked(pack_avatar(avatar))
    directions = np.concatenate([avatar.rig.exprdirs, avatar.rig.posedirs], axis=2)
    rebuilt = np.zeros((directions.shape[2] * len(directions), 3), np.float32)
    rebuilt[np.cumsum(tensors["direction_steps"])] = tensors["direction_offsets"]
    error = rebuilt.reshape(directions.shape[2], -1, 3).transpose(1, 2, 0) - directions
    assert np.abs(error).max() <= max(LEAST_OFFSET, 2**-11 * np.abs(directions).max())


def test_joints_follow_as_the_regressor_says(avatar):
    tensors, _ = unpacked(pack_avatar(avatar))
    weights = np.random.default_rng(0).random(len(avatar.rig.expression_names)).astype(np.float32)
    wanted = avatar.rig.J_regressor @ (avatar.rig.v_template + avatar.rig.exprdirs @ weights)
    assert np.abs(tensors["joints"] + tensors["joint_directions"] @ weights - wanted).max() < 1e-6


def test_packing_is_deterministic(avatar):
    assert pack_avatar(avatar) == pack_avatar(avatar)


def test_other_names_get_a_wider_range(avatar):
    names = tuple(f"expr_{k:02d}" for k in range(len(avatar.rig.expression_names)))
    assert unpacked(pack_avatar(replace(avatar, rig=replace(avatar.rig, expression_names=names))))[1]["expression_range"] == [-3, 3]


def test_a_licensed_head_stays_at_home(avatar, tmp_path):
    licensed = replace(avatar, rig=replace(avatar.rig, licence="FLAME, non-commercial", name="flame"))
    with pytest.raises(InputError, match=r"`flame`.*may not travel"):
        write_page(tmp_path / "a.html", licensed)
    assert not list(tmp_path.iterdir())
    assert unpacked(pack_avatar(licensed, stays_here=True))[1]["joint_names"] == list(avatar.rig.joint_names)


def test_refuses_what_the_player_cannot_hold(avatar):
    far = avatar.means.copy()
    far[7, 1] = 1e5
    with pytest.raises(InputError, match=r"`means`.*65504"):
        pack_avatar(replace(avatar, means=far))
    none = {name: getattr(avatar, name)[:0] for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN", "binding")}
    with pytest.raises(InputError, match="1 to"):
        pack_avatar(replace(avatar, **none))
    sure = replace(avatar, opacity_logits=np.full_like(avatar.opacity_logits, 1e30))
    assert unpacked(pack_avatar(sure))[0]["opacities"].min() == 1


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of each kind."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found, self.texts = [], {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.setdefault(self.found[-1][0] if self.found else "", []).append(data)


def test_hostile_texts_add_no_markup(avatar):
    metadata = {"consent": HOSTILE, "generator": HOSTILE}
    names = (HOSTILE, *avatar.rig.expression_names[1:])
    hostile = replace(avatar, metadata=metadata, rig=replace(avatar.rig, expression_names=names, name=HOSTILE))
    elements = Elements(player_page(pack_avatar(hostile, title=HOSTILE), HOSTILE))
    plain = Elements(player_page(pack_avatar(avatar, title="a"), "a"))
    assert [tag for tag, _ in elements.found] == [tag for tag, _ in plain.found]
    assert "".join(elements.texts["title"]).startswith(HOSTILE)


def test_the_policy_admits_this_script_and_style_alone(avatar):
    page = player_page(pack_avatar(avatar), "a")
    policy = next(attributes["content"] for _, attributes in Elements(page).found if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for tag, kind in (('<script type="module">', "script"), ("<style>", "style")):
        text = page.split(tag)[1].split(f"</{kind}>")[0]
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy


def test_the_page_asks_the_network_for_nothing(avatar):
    page = player_page(pack_avatar(avatar), "a")
    addresses = set(re.findall(r"https?://[\w./]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not any({"src", "href"} & attributes.keys() for _, attributes in Elements(page).found)


def test_modules_link_into_one_script():
    script = linked_script("page")
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE) and "</script" not in script
    modules = {path.stem for path in FOLDER.glob("*.js")} - {"page"}
    assert set(re.findall(r"^const (\w+)_module = ", script, re.MULTILINE)) == modules


def test_an_unfinished_page_leaves_the_old_one(avatar, tmp_path):
    path = tmp_path / "a.html"
    path.write_text("old")
    far = avatar.means * np.float32(1e6)
    with pytest.raises(InputError):
        write_page(path, replace(avatar, means=far))
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.html"]


def test_export_writes_the_page(avatar, tmp_path, capsys):
    from mvp4d_core.avatar import save_avatar

    save_avatar(tmp_path / "a.mvp4d", avatar)
    out = tmp_path / "out.html"
    assert main(["export", str(tmp_path / "a.mvp4d"), "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["page"] == str(out) and answer["bytes"] == out.stat().st_size and answer["frames"] > 100
    assert main(["export", str(tmp_path / "a.mvp4d"), "-o", str(out), "--expression", "jawOpen=1"]) == 2
    assert main(["export", str(tmp_path / "a.mvp4d"), "-o", str(tmp_path / "a.ply"), "--html"]) == 2
