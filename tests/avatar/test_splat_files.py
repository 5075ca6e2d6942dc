# SPDX-License-Identifier: Apache-2.0
"""`.splat` and SPZ: round trips within what the formats hold, readers that are not ours, and files that lie."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvp4d_core.avatar.file_space import stored_pose, turned
from mvp4d_core.avatar.posed_files import SPLAT_ENDINGS, read_splats, write_posed, write_sequence, write_splats
from mvp4d_core.avatar.splat_file import read_splat, write_splat
from mvp4d_core.avatar.spz import read_spz, write_spz
from mvp4d_core.avatar.stored_splats import StoredSplats
from mvp4d_core.errors import Cancelled, FormatError, InputError
from mvp4d_core.io.limits import Limits
from mvp4d_core.rig import rest_parameters, showcase_performance
from mvp4d_core.rotations import normalize_quaternions, quaternion_to_matrix
from tests.support import splat_transform
from tests.support.asserts import assert_arrays_close
from tests.support.mutation import assert_refuses_cleanly, peak_memory
from tests.support.toy_avatar import toy_avatar

moderate = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
C0 = 0.28209479177387814


@st.composite
def splats(draw, reach=4.0):
    """Splats whose values lie within what all formats hold."""
    count, bands = draw(st.integers(0, 9)), draw(st.sampled_from([0, 3, 8, 15]))

    def column(low, high, *shape):
        return draw(hnp.arrays(np.float32, (count, *shape), elements=st.floats(low, high, width=32)))

    quats = column(-2, 2, 4)
    quats[np.abs(quats).max(axis=1, initial=0) < 1e-3, 0] = 1
    colors = (column(0, 1, 3) - np.float32(0.5)) / np.float32(C0)
    return StoredSplats(column(-reach, reach, 3), quats, column(-9.5, 2, 3), column(-5, 5), colors, column(-0.9375, 0.9375, bands, 3))


def many(count=4000, bands=8, seed=0):
    rng = np.random.default_rng(seed)
    return StoredSplats(
        rng.uniform(-0.3, 0.3, (count, 3)).astype(np.float32),
        rng.normal(size=(count, 4)).astype(np.float32),
        rng.uniform(-9, -3, (count, 3)).astype(np.float32),
        rng.uniform(-4, 4, count).astype(np.float32),
        rng.uniform(-1.7, 1.7, (count, 3)).astype(np.float32),
        rng.uniform(-0.9, 0.9, (count, bands, 3)).astype(np.float32),
    )


def turn_between(a, b):
    """Degrees between rotations."""
    cosine = np.abs((normalize_quaternions(a.astype(np.float64)) * normalize_quaternions(b.astype(np.float64))).sum(axis=1))
    return np.degrees(2 * np.arccos(np.clip(cosine, 0, 1)))


def opacity(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def assert_like(actual, expected, *, means, log_scales, sh0, shN, degrees, opacities=0.51 / 255):
    assert_arrays_close(actual.means, expected.means, atol=means)
    assert_arrays_close(actual.log_scales, expected.log_scales, atol=log_scales)
    assert_arrays_close(actual.sh0, expected.sh0, atol=sh0)
    assert_arrays_close(actual.shN, expected.shN, atol=shN)
    assert_arrays_close(opacity(actual.opacity_logits), opacity(expected.opacity_logits), atol=opacities)
    assert turn_between(actual.quats, expected.quats).max(initial=0) <= degrees
    assert all(column.dtype == np.float32 for column in actual)


def by_importance(splats):
    """The order in which `.splat` files hold splats."""
    return np.argsort(
        -opacity(splats.opacity_logits).astype(np.float32) * np.exp(splats.log_scales).prod(axis=1, dtype=np.float64), kind="stable"
    )


@moderate
@given(splats=splats())
def test_splat_round_trip(tmp_path, splats):
    write_splat(tmp_path / "a.splat", splats)
    assert (tmp_path / "a.splat").stat().st_size == 32 * len(splats.means)
    read = read_splat(tmp_path / "a.splat")
    order = np.lexsort(splats.means.T)
    again = np.lexsort(read.means.T)
    flat = splats._replace(shN=splats.shN[:, :0])
    if len(np.unique(splats.means, axis=0)) == len(splats.means):
        sorted_by_place = [StoredSplats(*(column[index] for column in what)) for what, index in ((read, again), (flat, order))]
        assert_like(*sorted_by_place, means=0, log_scales=1e-5, sh0=0.51 / 255 / C0, shN=0, degrees=1.2)
    volume = np.exp(read.log_scales.astype(np.float64)).prod(axis=1)
    importance = opacity(read.opacity_logits) * volume
    rounded = 0.51 / 255 * (volume[1:] + volume[:-1])  # of opacities, which are bytes in the file
    assert (np.diff(importance) <= rounded + 1e-4 * importance.max(initial=0)).all()


@pytest.mark.parametrize(("version", "degrees"), [(3, 0.3), (2, 12.0)])
@moderate
@given(splats=splats())
def test_spz_round_trip(tmp_path, version, degrees, splats):
    write_spz(tmp_path / "a.spz", splats, version=version)
    read = read_spz(tmp_path / "a.spz")
    assert_like(read, splats, means=2.0**-20, log_scales=1 / 32 + 1e-6, sh0=0.51 / 255 / 0.15, shN=0.501 / 128, degrees=degrees)
    write_spz(tmp_path / "b.spz", read, version=version)
    again = read_spz(tmp_path / "b.spz")
    for name, first, second in zip(read._fields, read, again, strict=True):
        if name != "quats":
            np.testing.assert_array_equal(first, second, err_msg=name)


def test_spz_positions_of_any_size(tmp_path):
    for reach in (1e-3, 0.999, 1.0, 3.999, 4.0, 100.0, 5000.0, 2.0**22):
        splats = many(200)
        splats = splats._replace(means=(splats.means / np.abs(splats.means).max() * reach).astype(np.float32))
        write_spz(tmp_path / "a.spz", splats)
        assert np.abs(read_spz(tmp_path / "a.spz").means - splats.means).max() <= max(reach * 2.0**-22, 2.0**-21) * 1.01
    with pytest.raises(InputError, match="within 4,194,304 metres"):
        write_spz(tmp_path / "b.spz", splats._replace(means=splats.means * 3))
    with pytest.raises(InputError, match="2 or 3, got 4"):
        write_spz(tmp_path / "b.spz", splats, version=4)
    assert not (tmp_path / "b.spz").exists()


def test_convention_spz_axes_are_head_space(tmp_path):
    """x right, y up, z back for a viewer in front of the face: the numbers in the file are head space's."""
    avatar = toy_avatar(50)
    write_posed(tmp_path / "a.spz", avatar, rest_parameters(avatar.rig))
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    _, version, count, degree, bits, _, _ = struct.unpack("<4sIIBBBB", data[:16])
    assert (version, count, degree) == (3, 50, 0)
    first = [int.from_bytes(data[16 + 3 * axis : 19 + 3 * axis], "little", signed=True) / 2**bits for axis in range(3)]
    assert_arrays_close(np.array(first), avatar.pose(rest_parameters(avatar.rig)).means[0], atol=1e-6)


def test_turning_the_axes_twice_changes_nothing():
    splats = many(100, 15)
    for column, again in zip(splats, turned(turned(splats)), strict=True):
        np.testing.assert_array_equal(column, again)
    flip = np.diag([1.0, -1, -1])
    there = quaternion_to_matrix(turned(splats).quats.astype(np.float64))
    assert_arrays_close(there, flip @ quaternion_to_matrix(splats.quats.astype(np.float64)) @ flip, atol=1e-12)


@pytest.mark.npm
@pytest.mark.parametrize("name", ["a.ply", "a.splat", "a3.spz", "a2.spz"])
def test_splat_transform_reads_what_is_written(tmp_path, name):
    splats = many()
    if name == "a2.spz":
        write_spz(tmp_path / name, splats, version=2)
    else:
        write_splats(tmp_path / name, splats)
    columns = splat_transform.columns(tmp_path / name, tmp_path)
    if name == "a.splat":
        splats = StoredSplats(*(column[by_importance(splats)] for column in splats))
    exact = name == "a.ply"
    for axis in range(3):
        assert_arrays_close(columns["xyz"[axis]], splats.means[:, axis], atol=0 if name[-3:] != "spz" else 1e-6)
        assert_arrays_close(columns[f"scale_{axis}"], splats.log_scales[:, axis], atol=0 if exact else 1 / 31)
        assert_arrays_close(columns[f"f_dc_{axis}"], splats.sh0[:, axis], atol=0 if exact else 0.014)
    quats = np.stack([columns[f"rot_{part}"] for part in range(4)], axis=1)  # in .splat it takes 127.5 for the middle, others 128
    assert turn_between(quats, splats.quats).max() < {"a.ply": 1e-3, "a3.spz": 0.3, "a2.spz": 12, "a.splat": 1.9}[name]
    assert_arrays_close(opacity(columns["opacity"]), opacity(splats.opacity_logits), atol=1e-6 if exact else 0.0021)
    if name != "a.splat":
        rest = np.stack([columns[f"f_rest_{index}"] for index in range(24)], axis=1)
        assert_arrays_close(rest, splats.shN.transpose(0, 2, 1).reshape(-1, 24), atol=1e-6 if exact else 0.51 / 128)


@pytest.mark.npm
def test_reads_what_splat_transform_writes(tmp_path):
    splats = many()
    write_splats(tmp_path / "a.ply", splats)
    splat_transform.convert(tmp_path / "a.ply", tmp_path / "a.spz", "--spz-version", "3")
    read = read_spz(tmp_path / "a.spz")  # its writer keeps 12 bits of positions, 5 and 4 bits of harmonics
    assert_like(read, splats, means=2.0**-12, log_scales=1 / 31, sh0=0.014, shN=1 / 15, degrees=0.3)
    splat_transform.convert(tmp_path / "a.ply", tmp_path / "b.spz")
    with pytest.raises(FormatError, match=r"SPZ of version 4.*\n.*--spz-version 3"):
        read_spz(tmp_path / "b.spz")


def written(tmp_path, name, count=40):
    write_splats(tmp_path / name, many(count, 3))
    return (tmp_path / name).read_bytes()


def test_damaged_spz_is_refused_cleanly(tmp_path):
    sound = written(tmp_path, "a.spz")
    assert assert_refuses_cleanly(read_spz, sound, tmp_path / "a.spz", 300) == 300  # gzip's checksum finds every change

    def read_unpacked(path):
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
        read_spz(path)

    assert assert_refuses_cleanly(read_unpacked, gzip.decompress(sound), tmp_path / "a.spz", 400) > 150


def test_damaged_splat_files_are_refused_cleanly(tmp_path):
    assert assert_refuses_cleanly(read_splat, written(tmp_path, "a.splat"), tmp_path / "a.splat", 400) > 100


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0, b"NGSQ", "does not begin with `NGSP`"),
        (4, struct.pack("<I", 1), "version 1, versions 2 and 3"),
        (8, struct.pack("<I", 4_000_000), "more than fit in its"),
        (8, struct.pack("<I", 4_000_000_000), "more than the 20,000,000"),
        (8, struct.pack("<I", 41), "ends within them"),
        (8, struct.pack("<I", 39), "goes on after its 39 splats"),
        (12, b"\x04", "degree 4"),
        (13, b"\xff", "255 fractional bits"),
    ],
)
def test_lying_spz_headers(tmp_path, at, value, says):
    data = bytearray(gzip.decompress(written(tmp_path, "a.spz")))
    data[at : at + len(value)] = value
    (tmp_path / "a.spz").write_bytes(gzip.compress(bytes(data)))
    with pytest.raises((FormatError, InputError), match=says):
        read_spz(tmp_path / "a.spz")


def test_spz_that_unpacks_to_far_more_than_it_says(tmp_path):
    data = gzip.decompress(written(tmp_path, "a.spz"))
    (tmp_path / "a.spz").write_bytes(gzip.compress(data + bytes(200 << 20), 1))
    assert peak_memory(lambda: read_spz(tmp_path / "a.spz")) < 8 << 20
    with pytest.raises(FormatError, match="goes on after"):
        read_spz(tmp_path / "a.spz")
    lying = bytearray(data)
    lying[8:12] = struct.pack("<I", 19_000_000)
    (tmp_path / "a.spz").write_bytes(gzip.compress(bytes(lying)))
    assert peak_memory(lambda: read_spz(tmp_path / "a.spz")) < 1 << 20


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("means", np.nan, "splat 3 has a position"),
        ("scales", -1.0, "splat 3 has a scale"),
        ("scales", np.inf, "scale"),
        ("quats", 128, "length zero"),
    ],
)
def test_splat_files_with_impossible_values(tmp_path, field, value, says):
    data = written(tmp_path, "a.splat", 8)
    table = np.frombuffer(data, [("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)]).copy()
    table[field][3] = value
    (tmp_path / "a.splat").write_bytes(table.tobytes())
    with pytest.raises(FormatError, match=says):
        read_splat(tmp_path / "a.splat")
    (tmp_path / "a.splat").write_bytes(data[:-1])
    with pytest.raises(FormatError, match="255 bytes, no multiple of 32"):
        read_splat(tmp_path / "a.splat")


@pytest.mark.parametrize("ending", SPLAT_ENDINGS)
def test_limits_and_wrong_arrays(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_splats(path, many(20))
    reader = {".splat": read_splat, ".spz": read_spz}.get(ending)
    if reader:
        with pytest.raises(InputError, match="20 splats, more than the 19"):
            reader(path, Limits(elements=19))
    for field, value in (("means", np.zeros((4, 3))), ("sh0", np.full((20, 3), np.nan)), ("log_scales", np.full((20, 3), np.inf))):
        with pytest.raises(InputError):
            write_splats(tmp_path / f"b{ending}", many(20)._replace(**{field: value}))
    assert not (tmp_path / f"b{ending}").exists()


def test_endings_that_are_not_known(tmp_path):
    for action in (lambda path: write_splats(path, many(1)), read_splats):
        with pytest.raises(InputError, match=r"end in \.ply, \.splat, \.spz, got 'a\.sog'"):
            action(tmp_path / "a.sog")


@pytest.mark.parametrize("ending", SPLAT_ENDINGS)
def test_sequences_follow_the_performance_and_can_be_stopped(tmp_path, ending):
    avatar = toy_avatar(60)
    performance = showcase_performance(avatar.rig).select([0, 50, 90])
    paths = write_sequence(tmp_path / "s", avatar, performance, ending)
    assert [path.name for path in paths] == [f"frame_000{index}{ending}" for index in range(3)]
    for index, path in enumerate(paths):
        expected = stored_pose(avatar, performance[index]).means
        read = read_splats(path).means
        assert_arrays_close(read[np.lexsort(np.round(read.T, 4))], expected[np.lexsort(np.round(expected.T, 4))], atol=1e-4)

    def cancel(_stage, done, _total):
        if done == 1:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_sequence(tmp_path / "t", avatar, performance, ending, cancel)
    assert [path.name for path in (tmp_path / "t").iterdir()] == [f"frame_0000{ending}"]
