# SPDX-License-Identifier: Apache-2.0
"""The player in a real browser: its pictures against the rasteriser's, its controls under the hand, and strangers' avatars."""

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.player import pack_avatar, player_page
from mvp4d_core.player.bench import everything_moved, web_picture
from mvp4d_core.player.browser import Page, find_browser, open_page
from mvp4d_core.player.page import FOLDER, linked_script
from mvp4d_core.render.avatar import render_avatar
from mvp4d_core.rig import rest_parameters, showcase_performance
from tests.support.mutation import mutate
from tests.support.toy_avatar import toy_avatar

pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_browser() is None, reason="no Chromium, Chrome or Edge is installed")]

SIZE = 160
HOSTILE = '</script><img src=x onerror="globalThis.owned=1">\'"&'
STILL = "new Promise(resolve => setTimeout(resolve, 400))"


@pytest.fixture(scope="module")
def avatar():
    """With joints that expressions move."""
    avatar = toy_avatar(2000, sh_degree=3)
    spread = np.random.default_rng(0).dirichlet(np.full(len(avatar.rig.v_template), 0.05), len(avatar.rig.joint_names))
    return replace(avatar, rig=replace(avatar.rig, J_regressor=spread.astype(np.float32)))


@contextmanager
def shown(folder, packed: bytes, size=(760, 400), **options) -> Iterator[Page]:
    """The page of a packed avatar, open and ready."""
    path = folder / "page.html"
    path.write_text(player_page(packed, "Toy"), encoding="utf-8")
    with open_page(path.as_uri(), size, **options) as page:
        page.wait_for("globalThis.player !== undefined")
        yield page


def unexpected(page: Page) -> list[str]:
    """What the page complained about, without the driver's note that a screenshot waits for the GPU."""
    return [problem for problem in page.problems if "ReadPixels" not in problem]


@pytest.fixture(scope="module")
def page(avatar, tmp_path_factory):
    performance = showcase_performance(avatar.rig).select(slice(0, 144, 12))
    with shown(tmp_path_factory.mktemp("player"), pack_avatar(avatar, performance, title="Toy")) as page:
        yield page
        assert unexpected(page) == []


@pytest.fixture(autouse=True)
def at_rest(request):
    yield
    if "page" in request.fixturenames:
        request.getfixturevalue("page").evaluate("player.reset(); player.setCamera(null); player.setBackground(null)")


def camera(azimuth=0.0, elevation=0.1, distance=0.9):
    return orbit_camera(azimuth, elevation, target=np.zeros(3), distance=distance, fov_y=0.4, width=SIZE, height=SIZE)


def psnr(image, wanted):
    return -10 * np.log10(np.square(image - wanted).mean())


@pytest.mark.parametrize("background", [(0.2, 0.5, 0.9), (1.0, 1.0, 1.0)])
def test_rest_is_the_rasterisers_picture(page, avatar, background):
    wanted, _ = render_avatar(avatar, rest_parameters(avatar.rig), camera(), background=background)
    assert psnr(web_picture(page, avatar.rig, rest_parameters(avatar.rig), camera(), background), wanted) > 45


@pytest.mark.parametrize(("azimuth", "elevation", "distance"), [(0.0, 0.1, 0.9), (1.2, -0.4, 0.6), (3.0, 0.8, 0.35)])
def test_every_slider_and_joint_moved_is_the_rasterisers_picture(page, avatar, azimuth, elevation, distance):
    moved = everything_moved(avatar.rig, seed=3)
    view = camera(azimuth, elevation, distance)
    wanted, _ = render_avatar(avatar, moved, view, background=(0.0, 0.0, 0.0))
    rest, _ = render_avatar(avatar, rest_parameters(avatar.rig), view, background=(0.0, 0.0, 0.0))
    assert psnr(rest, wanted) < 30  # what is shown is not the rest pose by mistake
    assert psnr(web_picture(page, avatar.rig, moved, view, (0.0, 0.0, 0.0)), wanted) > 40


@pytest.mark.parametrize("index", [0, 7, 17, 23, 41, 51])
def test_single_sliders_are_the_rasterisers_picture(page, avatar, index):
    parameters = rest_parameters(avatar.rig)
    parameters.expression[index] = 1
    wanted, _ = render_avatar(avatar, parameters, camera(), background=(0.0, 0.0, 0.0))
    assert psnr(web_picture(page, avatar.rig, parameters, camera(), (0.0, 0.0, 0.0)), wanted) > 45


def test_a_picture_without_background_has_straight_alpha(page, avatar):
    parameters = rest_parameters(avatar.rig)
    black, alpha = render_avatar(avatar, parameters, camera(), background=(0.0, 0.0, 0.0))
    picture = web_picture(page, avatar.rig, parameters, camera(), None)
    assert np.abs(picture[..., 3] - alpha).max() < 0.02
    assert psnr(picture[..., :3] * picture[..., 3:], black) > 40


def test_frames_are_the_performances(page, avatar):
    performance = showcase_performance(avatar.rig).select(slice(0, 144, 12))
    for frame in (7, 8.25, len(performance) - 1):
        page.evaluate(f"player.setCamera({view_of(camera())}); player.setFrame({frame})")
        before, after = performance[int(np.floor(frame))], performance[int(np.ceil(frame))]
        mixed = {name: (1 - frame % 1) * getattr(before, name) + frame % 1 * getattr(after, name) for name in ("expression", "rotations")}
        wanted, _ = render_avatar(avatar, replace(before, **mixed), camera(), background=(0.0, 0.0, 0.0))
        assert psnr(current_picture(page), wanted) > 45, frame


def view_of(view) -> str:
    return json.dumps(
        {"K": view.K.tolist(), "camera_from_world": view.camera_from_world.tolist(), "width": view.width, "height": view.height}
    )


def current_picture(page, size=SIZE):
    """The pixels (H, W, 3) of a screenshot on black."""
    script = f"""player.screenshot({{width: {size}, height: {size}, background: [0, 0, 0]}}).then(createImageBitmap).then(picture => {{
      const paper = new OffscreenCanvas({size}, {size}).getContext("2d");
      paper.drawImage(picture, 0, 0);
      return Array.from(paper.getImageData(0, 0, {size}, {size}).data);
    }})"""
    return np.array(page.evaluate(script), np.float32).reshape(size, size, 4)[..., :3] / 255


def slide(page, label: str, value: float):
    """Moves the slider of that name as a hand would."""
    page.evaluate(f"""(() => {{
      const input = document.querySelector('input[aria-label="{label}"]');
      input.value = {value};
      input.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }})()""")


def value_of(page, label: str) -> float:
    return float(page.evaluate(f"""document.querySelector('input[aria-label="{label}"]').value"""))


def press(page, key: str, code: int = 0, text: str = ""):
    for kind in ("keyDown", "keyUp"):
        page.ask(
            "Input.dispatchKeyEvent", {"type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text if kind == "keyDown" else ""}
        )


def test_sliders_move_the_face_and_its_other_side(page, avatar):
    slide(page, "Blink left", 0.8)
    assert value_of(page, "Blink right") == pytest.approx(0.8)
    parameters = rest_parameters(avatar.rig)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        parameters.expression[avatar.rig.expression_names.index(name)] = 0.8
    wanted, _ = render_avatar(avatar, parameters, camera(), background=(0.0, 0.0, 0.0))
    page.evaluate(f"player.setCamera({view_of(camera())})")
    assert psnr(current_picture(page), wanted) > 45
    slide(page, "Look in left", 0.5)
    assert value_of(page, "Look out right") == pytest.approx(0.5) and value_of(page, "Look in right") == 0
    slide(page, "Mouth left", 0.5)
    assert value_of(page, "Mouth right") == 0


def test_joint_sliders_turn_both_eyes_alike(page):
    slide(page, "Left eye, sideways", 20)
    assert value_of(page, "Right eye, sideways") == 20
    assert page.evaluate("player.getJoint('right_eye')") == pytest.approx([0, np.deg2rad(20), 0], abs=1e-6)


def test_the_keyboard_reaches_sliders_and_picture(page):
    page.evaluate("""document.querySelector('input[aria-label="Pucker"]').focus()""")
    press(page, "ArrowRight", 39)
    assert value_of(page, "Pucker") == pytest.approx(0.01)
    before = current_picture(page, 64)
    page.evaluate("document.querySelector('canvas').focus()")
    for _ in range(4):
        press(page, "ArrowRight", 39)
    assert np.abs(current_picture(page, 64) - before).max() > 0.1
    press(page, "Home", 36)
    assert np.abs(current_picture(page, 64) - before).max() < 0.02


def test_space_plays_and_a_slider_stops_it(page):
    page.evaluate("document.querySelector('canvas').focus()")
    press(page, " ", 32, " ")
    page.wait_for("document.querySelector('.mvp4d-play').getAttribute('aria-label') === 'Pause'")
    page.wait_for("Number(document.querySelector('.mvp4d-timeline input').value) > 0")
    slide(page, "Pucker", 0.5)
    assert page.evaluate("document.querySelector('.mvp4d-play').getAttribute('aria-label')") == "Play"
    page.evaluate(STILL)
    assert value_of(page, "Pucker") == pytest.approx(0.5)


def test_dragging_turns_the_head(page):
    before = current_picture(page, 64)
    for kind, x in (("mousePressed", 200), ("mouseMoved", 260), ("mouseReleased", 260)):
        page.ask("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": 200, "button": "left", "buttons": 1, "clickCount": 1})
    assert np.abs(current_picture(page, 64) - before).max() > 0.1
    page.evaluate("document.querySelector('[aria-label=\"Reset the view\"]').click()")
    assert np.abs(current_picture(page, 64) - before).max() < 0.02


def test_what_the_canvas_shows_is_the_screenshot(page):
    page.evaluate(STILL)
    script = """(async () => {
      const canvas = document.querySelector("canvas");
      const pixels = picture => {
        const paper = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
        paper.drawImage(picture, 0, 0);
        return paper.getImageData(0, 0, picture.width, picture.height);
      };
      player.setBackground([0, 0, 0]);
      const { data: shown, width, height } = await new Promise(resolve => requestAnimationFrame(() => resolve(pixels(canvas))));
      const { data: saved } = pixels(await createImageBitmap(await player.screenshot({ width, height, background: [0, 0, 0] })));
      return [Math.max(0, ...saved.filter((_, k) => k % 4 < 3 && k % 101 === 0)),
              shown.reduce((most, value, k) => Math.max(most, Math.abs(value - saved[k])), 0)];
    })()"""
    brightest, worst = page.evaluate(script)
    assert brightest > 100 and worst <= 3


def test_every_control_has_a_name(page):
    nameless = """[...document.querySelectorAll("input, button, select, canvas")].filter(control =>
      !control.getAttribute("aria-label") && !control.textContent.trim() && !control.labels?.[0]?.textContent.trim()).length"""
    assert page.evaluate(nameless) == 0


def test_wrong_names_and_numbers_are_refused(page):
    for call in ("player.setExpression('grin', 1)", "player.setJoint('tail', [0, 0, 0])", "player.setExpression('jawOpen', NaN)"):
        assert page.evaluate(f"(() => {{ try {{ {call}; }} catch (error) {{ return error instanceof RangeError; }} }})()"), call


def test_a_lost_graphics_context_comes_back(page, avatar):
    page.evaluate(f"player.setCamera({view_of(camera())})")
    before = current_picture(page)
    page.evaluate("""(async () => {
      const extension = document.querySelector("canvas").getContext("webgl2").getExtension("WEBGL_lose_context");
      extension.loseContext();
      await new Promise(resolve => setTimeout(resolve, 300));
      extension.restoreContext();
      await new Promise(resolve => setTimeout(resolve, 300));
    })()""")
    assert np.abs(current_picture(page) - before).max() < 0.02
    page.problems.clear()  # the browser itself mentions the loss


def test_strangers_texts_stay_texts(tmp_path, avatar):
    names = (HOSTILE, *avatar.rig.expression_names[1:])
    joints = (HOSTILE, *avatar.rig.joint_names[1:])
    rig = replace(avatar.rig, expression_names=names, joint_names=joints, name=HOSTILE)
    hostile = replace(avatar, metadata={"consent": HOSTILE, "generator": HOSTILE, "version": HOSTILE}, rig=rig)
    with shown(tmp_path, pack_avatar(hostile, title=HOSTILE)) as page:
        page.evaluate(STILL)
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.evaluate("globalThis.owned === undefined")
        assert page.evaluate("document.querySelector('h2').textContent") == HOSTILE
        assert unexpected(page) == []
        # even markup that someone put in would not run
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"globalThis.owned=1\">')")
        page.evaluate(STILL)
        assert page.evaluate("globalThis.owned === undefined")


def test_the_module_lives_in_other_pages_more_than_once(tmp_path, avatar):
    data = base64.b64encode(pack_avatar(avatar, title="Toy")).decode()
    script = f"""{linked_script("player")}
      const avatar = await readAvatar(Uint8Array.from(atob("{data}"), c => c.charCodeAt(0)));
      const [first, second] = document.querySelectorAll("div");
      globalThis.players = [createPlayer(first, avatar, {{ controls: false }}), createPlayer(second, avatar)];"""
    style = (FOLDER / "player.css").read_text(encoding="utf-8") + "body > div { width: 300px; height: 300px; }"
    path = tmp_path / "host.html"
    path.write_text(f"<!doctype html><style>{style}</style><div></div><div></div><script type=module>{script}</script>", encoding="utf-8")
    with open_page(path.as_uri(), (400, 700)) as page:
        page.wait_for("globalThis.players !== undefined")
        controls = "[...document.querySelectorAll('body > div')].map(element => element.querySelectorAll('input').length > 50)"
        assert page.evaluate(controls) == [False, True]
        assert page.evaluate("[...document.querySelectorAll('.mvp4d-frame')].map(frame => frame.clientHeight)") == [300, 300]
        assert page.evaluate("document.querySelector('canvas').clientHeight") == 300  # no controls take from the picture
        page.evaluate("players[1].dispose()")
        assert page.evaluate("document.querySelectorAll('body > div')[1].innerHTML") == ""
        wanted, _ = render_avatar(avatar, rest_parameters(avatar.rig), camera(), background=(0.0, 0.0, 0.0))
        page.evaluate("globalThis.player = players[0]")
        assert psnr(web_picture(page, avatar.rig, rest_parameters(avatar.rig), camera(), (0.0, 0.0, 0.0)), wanted) > 45
        assert unexpected(page) == []


def test_a_damaged_avatar_is_one_line(tmp_path):
    packed = pack_avatar(toy_avatar(60))
    with shown(tmp_path, packed[: len(packed) // 2]) as page:
        assert page.evaluate("player === null")
        assert page.evaluate("document.querySelector('[role=alert]').textContent").startswith("This avatar is damaged: ")
        assert page.evaluate("document.querySelectorAll('canvas').length") == 0
        assert unexpected(page) == []


def test_mutated_avatars_are_read_or_refused_with_a_sentence(tmp_path):
    sound = gzip.decompress(pack_avatar(toy_avatar(60)))
    generator = np.random.default_rng(0)
    path = tmp_path / "reader.html"
    script = f"{linked_script('avatar')}\nObject.assign(globalThis, {{ readAvatar, PlayerError }});"
    path.write_text(f"<!doctype html><script type=module>{script}</script>", encoding="utf-8")
    cases = [sound, b"", sound[:8], sound[:3000], *(mutate(sound, generator) for _ in range(150))]
    refused = []
    with open_page(path.as_uri(), (200, 200)) as page:
        page.wait_for("globalThis.readAvatar !== undefined")
        for case in cases:
            data = base64.b64encode(gzip.compress(case, 1)).decode()
            verdict = page.evaluate(f"""readAvatar(Uint8Array.from(atob("{data}"), c => c.charCodeAt(0))).then(
              () => null, error => [error instanceof PlayerError, error.message])""")
            assert verdict is None or (verdict[0] and verdict[1].endswith("Export it again.")), verdict
            refused.append(verdict is not None)
        assert unexpected(page) == []
    assert refused[:4] == [False, True, True, True] and sum(refused) > 60


def test_without_webgl2_the_page_says_so(tmp_path, avatar):
    with shown(tmp_path, pack_avatar(avatar), flags=("--disable-3d-apis",)) as page:
        assert "WebGL2 is missing" in page.evaluate("document.querySelector('[role=alert]').textContent")
        assert page.evaluate("player === null")
