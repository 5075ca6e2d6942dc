# SPDX-License-Identifier: Apache-2.0
"""What hands have set in the player goes out as plain values and comes back in."""

import base64
import json

import numpy as np
import pytest

from mvp4d_core.cameras import camera_of_viewer, orbit_camera
from mvp4d_core.player.browser import find_browser, open_page
from mvp4d_core.player.pack import pack_avatar, rest_camera
from mvp4d_core.player.page import linked_script
from mvp4d_core.player.state import read_state
from mvp4d_core.rig import showcase_performance
from tests.support.toy_avatar import toy_avatar

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_browser() is None, reason="no browser")]


@pytest.fixture(scope="module")
def avatar():
    return toy_avatar(200)


@pytest.fixture(scope="module")
def page(avatar, tmp_path_factory):
    performance = showcase_performance(avatar.rig).select(slice(0, 144, 12))
    data = base64.b64encode(pack_avatar(avatar, performance)).decode()
    script = f"""{linked_script("player")}
      const avatar = await readAvatar(Uint8Array.from(atob("{data}"), c => c.charCodeAt(0)));
      globalThis.told = [];
      globalThis.player = createPlayer(document.querySelector("div"), avatar, {{ onSettle: state => told.push(state) }});"""
    path = tmp_path_factory.mktemp("state") / "page.html"
    path.write_text(f"<!doctype html><div style='height: 300px'></div><script type=module>{script}</script>", encoding="utf-8")
    with open_page(path.as_uri(), (500, 400)) as page:
        page.wait_for("globalThis.player !== undefined")
        yield page


@pytest.fixture(autouse=True)
def untouched(page):
    page.evaluate("player.setState({}); document.querySelector('[aria-label=\"Reset the view\"]').click()")
    page.evaluate("new Promise(done => setTimeout(() => { told.length = 0; done(); }, 250))")


def settled(page) -> list[dict]:
    page.evaluate("new Promise(done => setTimeout(done, 300))")
    return page.evaluate("told")


def test_a_change_is_told_once_and_only_what_is_not_at_rest(page):
    page.evaluate("for (const value of [0.1, 0.3, 0.5]) { player.setExpression('jawOpen', value); }")
    page.evaluate("player.setJoint('neck', [0, 0.25, 0])")
    (state,) = settled(page)
    assert state["expression"] == {"jawOpen": 0.5} and state["joints"] == {"neck": [0, 0.25, 0]}


def test_what_was_told_comes_back_silently(page):
    page.evaluate("player.setExpression('jawOpen', 0.5); player.setJoint('left_eye', [0.125, 0, 0])")
    page.evaluate("document.querySelector('canvas').focus()")
    for _ in range(3):
        page.ask("Input.dispatchKeyEvent", {"type": "keyDown", "key": "ArrowRight", "windowsVirtualKeyCode": 39})
    state = settled(page)[-1]
    page.evaluate("player.reset(); document.querySelector('[aria-label=\"Reset the view\"]').click()")
    assert settled(page)[-1]["camera"] != state["camera"]
    page.evaluate(f"told.length = 0; player.setState({json.dumps(state)})")
    assert settled(page) == []
    again = page.evaluate("player.getState()")
    assert again["expression"] == state["expression"] and again["joints"] == state["joints"]
    for end in ("position", "target"):
        assert again["camera"][end] == pytest.approx(state["camera"][end], abs=1e-6)


def test_nothing_is_told_while_it_plays(page):
    page.evaluate("player.play()")
    assert settled(page) == []
    page.evaluate("player.pause()")
    assert len(settled(page)) == 1


def test_names_of_another_avatar_are_left_out(page):
    page.evaluate("player.setState({ expression: { grin: 1, jawOpen: 0.25 }, joints: { tail: [1, 1, 1] } })")
    assert page.evaluate("player.getState().expression") == {"jawOpen": 0.25}
    assert page.evaluate("player.getState().joints") == {}


def test_python_reads_the_pose_and_the_camera_convention(page, avatar):
    """The camera that is told is the one that is drawn, in the viewer's convention that Python reads."""
    page.evaluate("player.setExpression('jawOpen', 0.5); document.querySelector('canvas').focus()")
    for key, code in (("ArrowRight", 39), ("ArrowRight", 39), ("ArrowUp", 38)):
        page.ask("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, "windowsVirtualKeyCode": code})
    state = read_state(json.dumps(settled(page)[-1]))
    assert state.pose(avatar.rig).expression[avatar.rig.expression_names.index("jawOpen")] == 0.5
    camera, target = camera_of_viewer(state.camera, 512, 512)
    rest = rest_camera(avatar.rig, 512)
    turned = orbit_camera(
        *np.deg2rad([10.0, 5.0]), target=target, distance=1.2, fov_y=2 * np.arctan(256 / rest.K[1, 1]), width=512, height=512
    )
    np.testing.assert_allclose(camera.camera_from_world, turned.camera_from_world, atol=1e-5)
    np.testing.assert_allclose(camera.K, rest.K, rtol=1e-5)
