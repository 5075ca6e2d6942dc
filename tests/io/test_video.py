# SPDX-License-Identifier: Apache-2.0
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError
from mvp4d_core.io.limits import Limits
from mvp4d_core.io.video import CLOSE, LOSSLESS, PRORES_4444, VP9_ALPHA, read_video, video_frames, write_video
from tests.support.asserts import assert_arrays_close
from tests.support.faults import file_names
from tests.support.mutation import assert_refuses_cleanly

COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.8, 0.6, 0.45], [1, 0, 1], [0.5, 0.5, 0.5]], np.float32)


def colour_bars(frames=4, height=64):
    return np.broadcast_to(np.repeat(COLOURS, 32, axis=0), (frames, height, 256, 3))


def moving_square(frames=12, side=48):
    video = np.full((frames, side, side, 3), 0.2, np.float32)
    for index in range(frames):
        video[index, 10:26, index * 2 : index * 2 + 16] = [0.9, 0.7, 0.3]
    return video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_video(path, moving_square(), 25)
    return path.read_bytes()


def test_convention_colours_survive_as_bt709(tmp_path):
    write_video(tmp_path / "a.mp4", colour_bars(), 30)
    frames, fps = read_video(tmp_path / "a.mp4")
    assert (frames.shape, frames.dtype, fps) == ((4, 64, 256, 3), np.float32, 30)
    assert_arrays_close(frames[:, 8:-8, 16::32], colour_bars()[:, 8:-8, 16::32], atol=2.5 / 255)
    with av.open(tmp_path / "a.mp4") as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 1, 1, 1)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_frames_keep_their_order_and_place(tmp_path):
    told = []
    write_video(tmp_path / "a.mp4", moving_square(), 29.97, lambda *step: told.append(step))
    frames, fps = read_video(tmp_path / "a.mp4")
    assert told == [("write video", done, 12) for done in range(13)]
    assert fps == pytest.approx(29.97)
    assert_arrays_close(frames, moving_square(), atol=0.12)


@pytest.mark.parametrize(("height", "width"), [(33, 46), (32, 47), (1, 1)])
def test_odd_sizes_gain_a_repeated_line(tmp_path, height, width):
    ramp = np.linspace(0, 1, width, dtype=np.float32)[None, None, :, None]
    video = np.broadcast_to(ramp, (3, height, width, 3))
    write_video(tmp_path / "a.mp4", iter(video), 24)
    frames, _ = read_video(tmp_path / "a.mp4")
    even = (height + height % 2, width + width % 2)
    assert frames.shape == (3, *even, 3)
    expected = np.pad(video, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    assert_arrays_close(frames, expected, atol=0.05)


@pytest.mark.parametrize("pixel", [np.uint8, np.float32])
def test_lossless_and_close_videos(tmp_path, pixel):
    """Of an odd size too; colours of neighbouring pixels stay apart where the playable kind would mix them."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 33, 47, 3), np.uint8)
    write_video(tmp_path / "a.mp4", noise if pixel is np.uint8 else noise.astype(pixel) / 255, 25, quality=LOSSLESS)
    assert (np.stack(list(video_frames(tmp_path / "a.mp4"))) == noise).all()
    stripes = np.zeros((2, 17, 31, 3), np.float32)
    stripes[..., ::2, 0] = 1
    write_video(tmp_path / "b.mp4", stripes, 25, quality=CLOSE)
    assert_arrays_close(read_video(tmp_path / "b.mp4")[0], stripes, atol=0.05)
    write_video(tmp_path / "c.mp4", stripes, 25)
    assert np.abs(read_video(tmp_path / "c.mp4")[0][:, :17, :31] - stripes).max() > 0.3


@pytest.mark.parametrize("wanted", [None, [0], [3, 7, 8], {11}, [5, 99], [], [99]])
def test_wanted_frames_are_those_of_the_whole(tmp_path, clip, wanted):
    (tmp_path / "a.mp4").write_bytes(clip)
    whole, _ = read_video(tmp_path / "a.mp4")
    numbers = range(12) if wanted is None else sorted(number for number in wanted if number < 12)
    frames = list(video_frames(tmp_path / "a.mp4", wanted))
    assert len(frames) == len(numbers) and all(frame.dtype == np.uint8 for frame in frames)
    for frame, number in zip(frames, numbers, strict=True):
        assert (frame == np.rint(whole[number] * 255)).all()


@pytest.mark.parametrize(
    ("name", "frames", "fps", "says"),
    [
        ("a.avi", np.zeros((1, 4, 4, 3)), 25, "end in .mp4"),
        ("a.mp4", [], 25, "needs a frame"),
        ("a.mp4", np.zeros((1, 4, 4, 3)), 0, "`fps` must"),
        ("a.mp4", np.zeros((1, 4, 4, 3)), float("nan"), "`fps` must"),
        ("a.mp4", np.zeros((1, 4, 4)), 25, "Frame 0 must be"),
        ("a.mp4", [np.zeros((4, 4, 3)), np.zeros((4, 6, 3))], 25, "Frame 1 is"),
        ("a.mp4", [np.zeros((4, 4, 3)), np.full((4, 4, 3), np.inf)], 25, "Frame 1 must be finite"),
        ("a.mp4", np.zeros((1, 2, 40_000, 3), np.float32), 25, "cannot hold 40000 x 2"),
    ],
)
def test_write_refuses(tmp_path, name, frames, fps, says):
    with pytest.raises(InputError, match=says):
        write_video(tmp_path / name, frames, fps)
    assert file_names(tmp_path) == []


def test_cancel_leaves_the_old_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")

    def cancel(stage, done, total):
        if done == 2:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_video(tmp_path / "a.mp4", moving_square(), 25, cancel)
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert file_names(tmp_path) == ["a.mp4"]


def test_without_pyav_or_its_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(MissingAssetError, match="libx264"):
        write_video(tmp_path / "a.mp4", moving_square(2), 25)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingAssetError, match="pip install av"):
        write_video(tmp_path / "a.mp4", moving_square(2), 25)
    with pytest.raises(MissingAssetError, match="pip install av"):
        read_video(tmp_path / "a.mp4")


def encoded(path, codec="mpeg4", pix_fmt="yuv420p", container=None, audio_only=False):
    with av.open(str(path), "w", format=container) as file:
        if audio_only:
            stream = file.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            file.mux(stream.encode(frame))
        else:
            stream = file.add_stream(codec, rate=Fraction(10))
            stream.height, stream.width, stream.pix_fmt = 48, 48, pix_fmt
            for image in moving_square(5):
                frame = av.VideoFrame.from_ndarray((image * 255).astype(np.uint8), format="rgb24")
                file.mux(stream.encode(frame.reformat(format=pix_fmt)))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.mov", "mpeg4"), ("a.webm", "libvpx-vp9")])
def test_other_containers(tmp_path, name, codec):
    frames, fps = read_video(encoded(tmp_path / name, codec))
    assert frames.shape == (5, 48, 48, 3)
    assert fps == pytest.approx(10, rel=0.02)
    assert np.abs(frames - moving_square(5)).mean() < 0.03


def with_rotation(data, quarter_turns):
    """`data` with the display matrix of its first track turned, as phones write it."""
    turn = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarter_turns]
    matrix = data.index(b"tkhd", data.index(b"trak")) + 4 + 40
    numbers = [turn[0], turn[1], 0, turn[2], turn[3], 0, 0, 0, 1]
    fixed = b"".join(int(v * (2**30 if i % 3 == 2 else 2**16)).to_bytes(4, "big", signed=True) for i, v in enumerate(numbers))
    return data[:matrix] + fixed + data[matrix + 36 :]


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_convention_a_turned_phone_gives_upright_frames(tmp_path, clip, quarter_turns):
    (tmp_path / "a.mp4").write_bytes(with_rotation(clip, quarter_turns))
    frames, _ = read_video(tmp_path / "a.mp4")
    (tmp_path / "plain.mp4").write_bytes(clip)
    plain, _ = read_video(tmp_path / "plain.mp4")
    # a matrix with b = 1 asks the player to turn the picture clockwise (ISO/IEC 14496-12, 6.2.2)
    assert_arrays_close(frames, np.rot90(plain, -quarter_turns, axes=(1, 2)))


def test_files_that_are_no_video(tmp_path):
    encoded(tmp_path / "sound.mkv", container="matroska", audio_only=True)
    with pytest.raises(FormatError, match="no picture track"):
        read_video(tmp_path / "sound.mkv")
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(FormatError, match="not a sound video"):
            read_video(tmp_path / "a.mp4")


def test_playlists_do_not_open_the_files_they_name(tmp_path, clip):
    (tmp_path / "secret.mp4").write_bytes(clip)
    secret = (tmp_path / "secret.mp4").as_posix()
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "b.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "a.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(FormatError):
            read_video(tmp_path / name)


def test_limits(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(clip)
    read_video(tmp_path / "a.mp4", Limits(pixels=48 * 48, video_pixels=12 * 48 * 48))
    with pytest.raises(InputError, match="2,304 pixels a frame, more than the 2,303"):
        read_video(tmp_path / "a.mp4", Limits(pixels=48 * 48 - 1))
    with pytest.raises(InputError, match="pixels in all frames"):
        read_video(tmp_path / "a.mp4", Limits(video_pixels=12 * 48 * 48 - 1))


def test_every_truncation_is_refused(tmp_path, clip):
    for end in range(0, len(clip) - 1, max(len(clip) // 60, 1)):
        (tmp_path / "a.mp4").write_bytes(clip[:end])
        with pytest.raises(FormatError):
            read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_damaged_videos_are_refused_cleanly_and_in_time(tmp_path, clip, name):
    path: Path = tmp_path / name
    sound = clip if name == "a.mp4" else encoded(path).read_bytes()
    small = Limits(pixels=1_000_000, video_pixels=10_000_000)
    assert_refuses_cleanly(lambda damaged: read_video(damaged, small), sound, path, 200)


def disc(frames=6, height=45, width=62):
    """Straight alpha: a soft disc that moves over a colour that is there everywhere."""
    y, x = np.mgrid[:height, :width]
    video = np.zeros((frames, height, width, 4), np.float32)
    video[..., :3] = [0.8, 0.55, 0.3]
    for index in range(frames):
        video[index, ..., 3] = np.clip(1.5 - np.hypot(x - 20 - 4 * index, y - 22) / 10, 0, 1)
    return video


def decoded_rgba(path):
    """All frames (T, H, W, 4) uint8; the alpha of VP9 is in packets beside the picture's, which FFmpeg's own VP9 decoder leaves out."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if stream.codec_context.name == "vp9" else stream.codec_context
        packets = [packet for packet in container.demux(stream) if packet.size]
        frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
        return np.stack([frame.reformat(format="rgba", dst_color_range="JPEG").to_ndarray() for frame in frames])


ALPHA = [(PRORES_4444, 0.02), (VP9_ALPHA, 0.05)]


@pytest.mark.parametrize(("quality", "tolerance"), ALPHA, ids=lambda value: getattr(value, "name", None))
def test_convention_alpha_is_straight(tmp_path, quality, tolerance):
    path = tmp_path / f"a{quality.ending}"
    write_video(path, disc(), 25, quality=quality)
    frames = decoded_rgba(path)[:, :45] / 255
    assert len(frames) == 6
    assert_arrays_close(frames[..., 3], disc()[..., 3], atol=tolerance)
    assert_arrays_close(frames[..., :3], disc()[..., :3], atol=tolerance)
    opaque, fps = read_video(path)
    assert fps == 25 and opaque.shape[0] == 6 and opaque.shape[3] == 3


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (PRORES_4444, {"codec_name": "prores", "profile": "4444", "codec_tag_string": "ap4h", "color_space": "bt709"}),
        (VP9_ALPHA, {"codec_name": "vp9", "pix_fmt": "yuv420p", "color_space": "bt709", "alpha_mode": "1"}),
    ],
    ids=["mov", "webm"],
)
def test_ffprobe_names_the_codec_and_the_alpha(tmp_path, quality, expected):
    path = tmp_path / f"a{quality.ending}"
    write_video(path, disc(), 25, quality=quality)
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)]
    stream = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)["streams"][0]
    stream |= {key.lower(): value for key, value in stream.get("tags", {}).items()}
    assert {key: str(stream[key]) for key in expected} == expected
    assert stream["nb_read_frames"] == "6"
    assert quality is VP9_ALPHA or stream["pix_fmt"].startswith("yuva444p")


@pytest.mark.parametrize(("quality", "tolerance"), ALPHA, ids=lambda value: getattr(value, "name", None))
def test_alpha_videos_refuse_and_stop_like_others(tmp_path, quality, tolerance):
    for name, frames, says in (
        ("a.mp4", disc(1), f"end in {quality.ending}"),
        (f"a{quality.ending}", moving_square(1), "colour and alpha"),
        (f"a{quality.ending}", disc(1) * np.nan, "must be finite"),
    ):
        with pytest.raises(InputError, match=says):
            write_video(tmp_path / name, frames, 25, quality=quality)

    def cancel(_stage, done, _total):
        if done == 2:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_video(tmp_path / f"a{quality.ending}", disc(), 25, cancel, quality=quality)
    assert file_names(tmp_path) == []


def test_without_the_encoder_for_alpha(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    with pytest.raises(MissingAssetError, match=r"ProRes 4444 encoder \(prores_ks\)"):
        write_video(tmp_path / "a.mov", disc(1), 25, quality=PRORES_4444)
