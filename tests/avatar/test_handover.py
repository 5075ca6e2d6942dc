# SPDX-License-Identifier: Apache-2.0
"""Avatars handed over in a folder."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mvp4d_core.avatar import load_avatar
from mvp4d_core.avatar.handover import SCHEMA, read_handover, write_handover
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.rig import load_performance, rest_parameters, single_frame
from tests.support.toy_avatar import toy_avatar


def test_what_is_handed_over_is_what_arrives(tmp_path):
    avatar = toy_avatar(50)
    performance = single_frame(rest_parameters(avatar.rig), avatar.rig, fps=30)
    manifest = write_handover(tmp_path / "new" / "folder", "Ada 1", avatar, performance)
    found = read_handover(manifest)
    assert np.array_equal(load_avatar(found.avatar).means, avatar.means) and load_performance(found.performance).fps == 30
    assert found.avatar_sha256 == hashlib.sha256(found.avatar.read_bytes()).hexdigest()
    assert found.performance_sha256 == hashlib.sha256(found.performance.read_bytes()).hexdigest()
    assert json.loads(manifest.read_text())["frames"] == 1


def test_handing_over_again_replaces_it(tmp_path):
    avatar, other = toy_avatar(50), toy_avatar(60)
    first = read_handover(write_handover(tmp_path, "head", avatar, single_frame(rest_parameters(avatar.rig), avatar.rig)))
    second = read_handover(write_handover(tmp_path, "head", other))
    assert second.avatar_sha256 != first.avatar_sha256 and second.performance is None and second.performance_sha256 == ""
    assert {path.name for path in tmp_path.iterdir()} == {"head.mvp4d", "head.json"}


@pytest.mark.parametrize("name", ["", "../head", "a/b", "a\\b", ".hidden", "head.", "x" * 81, "a\nb", "C:x"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(InputError):
        write_handover(tmp_path / "f", name, toy_avatar(10))
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "mvp4d-handover/2"},
        {"avatar": "../../secret.mvp4d"},
        {"performance": "/etc/passwd"},
        {"name": None},
        {"name": "../head"},
        {"avatar_sha256": "short"},
        {"avatar_sha256": None},
    ],
)
def test_hostile_manifests_are_refused(tmp_path: Path, change):
    digest = "0" * 64
    path = tmp_path / "head.json"
    path.write_text(json.dumps({"schema": SCHEMA, "name": "head", "avatar": "head.mvp4d", "avatar_sha256": digest} | change))
    with pytest.raises(FormatError):
        read_handover(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00\xff"])
def test_damaged_manifests_are_refused(tmp_path, text):
    path = tmp_path / "head.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError):
        read_handover(path)
