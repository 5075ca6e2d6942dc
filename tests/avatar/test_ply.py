# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import plyfile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvp4d_core.avatar.ply import StoredSplats, read_ply, write_ply
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io.limits import Limits
from tests.support import strategies
from tests.support.mutation import assert_refuses_cleanly, peak_memory

moderate = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


def some_splats(count=5, bands=3, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(count, 3), (count, 4), (count, 3), (count,), (count, 3), (count, bands, 3)]
    return StoredSplats(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def columns_of(splats):
    """The columns of the format written out one by one, as an oracle."""
    columns = {name: splats.means[:, axis] for axis, name in enumerate("xyz")}
    columns |= {f"f_dc_{channel}": splats.sh0[:, channel] for channel in range(3)}
    bands = splats.shN.shape[1]
    for channel in range(3):
        for band in range(bands):
            columns[f"f_rest_{channel * bands + band}"] = splats.shN[:, band, channel]
    columns["opacity"] = splats.opacity_logits
    columns |= {f"scale_{axis}": splats.log_scales[:, axis] for axis in range(3)}
    columns |= {f"rot_{part}": splats.quats[:, part] for part in range(4)}
    return columns


def plyfile_bytes(columns, kind="binary_little_endian", dtypes=None, more=(), name="vertex"):
    count = len(next(iter(columns.values())))
    table = np.zeros(count, [(column, (dtypes or {}).get(column, "f4")) for column in columns])
    for column, values in columns.items():
        table[column] = values
    stream = io.BytesIO()
    elements = [plyfile.PlyElement.describe(table, name), *more]
    plyfile.PlyData(elements, text=kind == "ascii", byte_order=ORDERS[kind]).write(stream)
    return stream.getvalue()


def assert_same(actual, expected):
    for name, got, wanted in zip(StoredSplats._fields, actual, expected, strict=True):
        assert got.dtype == np.float32
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def sound(**kwargs):
    return plyfile_bytes(columns_of(some_splats()), **kwargs)


@moderate
@given(splats=strategies.splats())
def test_plyfile_reads_what_is_written(tmp_path, splats):
    write_ply(tmp_path / "a.ply", *splats)
    data = plyfile.PlyData.read(tmp_path / "a.ply")
    vertex = data["vertex"]
    for name, values in columns_of(splats).items():
        np.testing.assert_array_equal(vertex[name], values, err_msg=name)
    assert not data.text and data.byte_order == "<" and [element.name for element in data] == ["vertex"]
    assert len(vertex.properties) == 17 + 3 * splats.shN.shape[1]
    assert all(not vertex[name].any() for name in ("nx", "ny", "nz"))
    assert_same(read_ply(tmp_path / "a.ply"), splats)


@moderate
@given(splats=strategies.splats(), kind=st.sampled_from(list(ORDERS)), random=st.randoms(), double=st.booleans())
def test_reads_what_plyfile_writes_in_any_order(tmp_path, splats, kind, random, double):
    columns = columns_of(splats) | {"nx": np.ones(len(splats.means)), "segment": np.arange(len(splats.means))}
    shuffled = random.sample(list(columns), len(columns))
    dtypes = {"segment": "u1", "nx": "i4"} | ({"x": "f8", "opacity": "f8"} if double else {})
    (tmp_path / "a.ply").write_bytes(plyfile_bytes({name: columns[name] for name in shuffled}, kind, dtypes))
    assert_same(read_ply(tmp_path / "a.ply"), splats)


@pytest.mark.parametrize("kind", ORDERS)
def test_elements_around_the_splats(tmp_path, kind):
    before = plyfile.PlyElement.describe(np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")]), "header_things")
    faces = plyfile.PlyElement.describe(np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))]), "face")
    splats = some_splats()
    vertex = plyfile.PlyData.read(io.BytesIO(plyfile_bytes(columns_of(splats))))["vertex"]
    path = tmp_path / "a.ply"
    plyfile.PlyData([before, vertex, faces], text=kind == "ascii", byte_order=ORDERS[kind]).write(path)
    assert_same(read_ply(path), splats)
    plyfile.PlyData([faces, vertex], text=kind == "ascii", byte_order=ORDERS[kind]).write(path)
    with pytest.raises(FormatError, match="list property"):
        read_ply(path)


def test_comments_and_windows_line_ends(tmp_path):
    head, body = sound(kind="ascii").split(b"end_header\n")
    text = head.replace(b"element", "comment Größe\nobj_info x\ncomment\nelement".encode(), 1) + b"end_header\n" + body
    (tmp_path / "a.ply").write_bytes(text.replace(b"\n", b"\r\n"))
    assert_same(read_ply(tmp_path / "a.ply"), some_splats())
    (tmp_path / "a.ply").write_bytes(text.rstrip())
    assert_same(read_ply(tmp_path / "a.ply"), some_splats())


def test_convention_spherical_harmonics_are_channel_by_channel(tmp_path):
    shN = np.zeros((1, 3, 3), np.float32)
    shN[0, 1, 2] = 7  # second coefficient of blue
    write_ply(tmp_path / "a.ply", *some_splats(1)._replace(shN=shN))
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    assert [name for name in (f"f_rest_{i}" for i in range(9)) if vertex[name][0]] == ["f_rest_7"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"ply", b"plx", "begin with `ply`"),
        (b"vertex 5", b"vertex 1000000000000", "promises 92,000,000,000,000 bytes and 460 follow"),
        (b"vertex 5", b"vertex 999999999999999999999", "count of element 'vertex' is '99999"),
        (b"vertex 5", b"vertex 4", "promises 368 bytes and 460 follow"),
        (b"vertex 5", b"vertex -5", "count of element 'vertex' is '-5'"),
        (b"vertex 5", b"vertex 5.0", "count"),
        (b"vertex 5", b"vertex 1_0", "count"),
        (b"vertex 5", b"vertex", "the line 'element vertex'"),
        (b"element vertex 5", b"element vertex 5\nelement vertex 5", "2 elements named `vertex`"),
        (b"element vertex 5", b"comment", "the line 'property float x'"),
        (b"element vertex", b"element point", "0 elements named `vertex`"),
        (b"property float y", b"property float x", "the property 'x' twice"),
        (b"property float y\n", b"", "the columns y are missing"),
        (b"property float rot_0\n", b"property float scale_9\n", "the columns rot_0 are missing"),
        (b"property float opacity", b"property list uchar float opacity", "list property"),
        (b"property float opacity", b"property quad opacity", "quad opacity"),
        (b"property float f_rest_8\n", b"", "has 8 f_rest columns"),
        (b"f_rest_8", b"f_rest_9", "has 9 f_rest columns"),
        (b"end_header", b"end_of_header", "end_of_header"),
        (b"end_header\n", b"", "header"),
        (b"format binary_little_endian 1.0\n", b"", "no format"),
        (b"format binary_little_endian 1.0", b"format binary_middle_endian 1.0", "binary_middle_endian"),
        (b"format binary_little_endian 1.0", b"format binary_little_endian 2.0", "2.0"),
        (b"format binary_little_endian 1.0", b"format ascii 1.0\nformat ascii 1.0", "format ascii"),
    ],
)
def test_header_lies(tmp_path, old, new, says):
    data = sound()
    assert old in data
    (tmp_path / "a.ply").write_bytes(data.replace(old, new, 1))
    with pytest.raises(FormatError, match=says):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("kind", ORDERS)
def test_every_truncation_is_refused(tmp_path, kind):
    data = sound(kind=kind)
    start = data.index(b"end_header")
    last = data.rstrip().rindex(b" ") if kind == "ascii" else len(data)  # a number cut short is still a number
    for end in [*range(0, start, 97), *range(start, last, 7)]:
        (tmp_path / "a.ply").write_bytes(data[:end])
        with pytest.raises(FormatError):
            read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("column", ["x", "rot_3", "opacity", "f_rest_4"])
@pytest.mark.parametrize("kind", ORDERS)
def test_values_that_are_not_finite(tmp_path, bad, column, kind):
    columns = {name: values.astype(float) for name, values in columns_of(some_splats()).items()}
    columns[column][3] = bad
    (tmp_path / "a.ply").write_bytes(plyfile_bytes(columns, kind, dict.fromkeys(columns, "f8")))
    with pytest.raises(FormatError, match=r"splat 3 has a value in `[a-zA-Z0-9_]+` that is not finite"):
        read_ply(tmp_path / "a.ply")


def test_rotation_of_length_zero(tmp_path):
    splats = some_splats()
    splats.quats[2] = 0
    (tmp_path / "a.ply").write_bytes(plyfile_bytes(columns_of(splats)))
    with pytest.raises(FormatError, match="splat 2 has a rotation of length zero"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("row", ["", "1 2 3", "x " * 26, "1 " * 27, "1e 2", "0x1 " * 26, "1_0 " * 26, "1," * 26])
def test_ascii_rows_that_are_wrong(tmp_path, row):
    lines = sound(kind="ascii").decode().splitlines()
    lines[-2] = row
    (tmp_path / "a.ply").write_text("\n".join(lines) + "\n", encoding="ascii")
    with pytest.raises(FormatError):
        read_ply(tmp_path / "a.ply")


def test_a_mesh_is_named_as_such(tmp_path):
    (tmp_path / "a.ply").write_bytes(plyfile_bytes({name: np.zeros(3) for name in "xyz"}))
    with pytest.raises(FormatError, match="not a Gaussian splat file, the columns f_dc_0, f_dc_1"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("kind", ORDERS)
def test_damaged_files_are_refused_cleanly_and_in_time(tmp_path, kind):
    refused = assert_refuses_cleanly(read_ply, sound(kind=kind), tmp_path / "a.ply", 700, seed=len(kind))
    assert refused > 300


def test_limits_and_memory(tmp_path):
    path = tmp_path / "a.ply"
    write_ply(path, *some_splats(20_000, 15))
    with pytest.raises(InputError, match="20,000 splats, more than the 19,999"):
        read_ply(path, Limits(elements=19_999))
    assert peak_memory(lambda: read_ply(path)) < 3 * path.stat().st_size
    path.write_bytes(sound().replace(b"vertex 5", b"vertex 10000000"))
    assert peak_memory(lambda: read_ply(path)) < 200_000
    path.write_bytes(sound(kind="ascii").replace(b"vertex 5", b"vertex 10000000"))
    assert peak_memory(lambda: read_ply(path)) < 200_000
    path.write_bytes(b"ply\n" + b"comment x\n" * 1_000_000)
    with pytest.raises(FormatError, match="no `end_header` within 4,194,304 bytes"):
        read_ply(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("means", np.zeros((5, 2))), ("quats", np.zeros((4, 4))), ("opacity_logits", np.zeros((5, 1))), ("shN", np.zeros((5, 4, 3))),
        ("shN", np.zeros((5, 9))), ("sh0", np.full((5, 3), np.nan)), ("log_scales", np.full((5, 3), -np.inf)),
    ],
)  # fmt: skip
def test_write_refuses_wrong_arrays(tmp_path, field, value):
    with pytest.raises(InputError, match=f"`{field}` must"):
        write_ply(tmp_path / "a.ply", *some_splats()._replace(**{field: value}))
    assert list(tmp_path.iterdir()) == []
