# SPDX-License-Identifier: Apache-2.0
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import numpy as official

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.io.limits import Limits
from tests.support import strategies
from tests.support.mutation import assert_refuses_cleanly, mutate, peak_memory

F32_PAIR = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
moderate = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pack(header, data=b""):
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(info=F32_PAIR, name="a", before=""):
    """Header text with one tensor."""
    return "{" + before + f'"{name}":{info}' + "}"


def described(data=bytes(8), **changes):
    return pack({"a": json.loads(F32_PAIR) | changes}, data)


def official_verdict(data):
    """The official reader's tensors, or None where it refuses; a Rust panic is no Exception."""
    try:
        return official.load(data)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


def assert_same_tensors(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        stored = array.view(np.uint8) != 0 if array.dtype == bool else array  # a byte that is not 0 counts as true
        assert actual[name].tobytes() == np.ascontiguousarray(stored).tobytes(), name


@moderate
@given(tensors=strategies.tensors, metadata=strategies.metadata)
def test_round_trips_with_the_official_package(tmp_path, tensors, metadata):
    path = tmp_path / "a.safetensors"
    safetensors_numpy.write(path, tensors, metadata)
    wanted = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in tensors.items()}
    assert_same_tensors(official.load(path.read_bytes()), wanted)
    got, got_metadata = safetensors_numpy.read(path)
    assert_same_tensors(got, wanted)
    assert got_metadata == metadata
    contiguous = {name: np.array(array, order="C") for name, array in wanted.items()}
    got, got_metadata = safetensors_numpy.read(official.save(contiguous, metadata or None))
    assert_same_tensors(got, wanted)
    assert got_metadata == metadata
    if len(metadata) == 1:
        assert path.read_bytes() == official.save(contiguous, metadata)


def test_bytes_do_not_depend_on_the_order(tmp_path):
    tensors = {"b": np.ones(3, np.float32), "a": np.zeros((2, 2)), "c": np.array(7, np.int8)}
    safetensors_numpy.write(tmp_path / "1", tensors, {"y": "1", "x": "2"})
    safetensors_numpy.write(tmp_path / "2", dict(reversed(tensors.items())), {"x": "2", "y": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_arrays_are_writable_and_their_own(tmp_path):
    safetensors_numpy.write(tmp_path / "a", {"x": np.zeros(3), "flags": np.array([True, False])})
    tensors, _ = safetensors_numpy.read(tmp_path / "a")
    for array in tensors.values():
        assert array.flags.writeable and array.flags.aligned and array.flags.c_contiguous
        array[0] = 1


CHOSEN = [
    b"", bytes(7), bytes(8), (2**63).to_bytes(8, "little") + b"{}", (100).to_bytes(8, "little") + b"{}",
    pack(""), pack("[]"), pack("null"), pack("{}"), pack("{}", b"x"), pack("\ufeff{}"), pack("{}\0"), pack(" \n{}\t "), pack(b"{\xff}"),
    pack(one(), bytes(8)), pack(one(), bytes(7)), pack(one(), bytes(9)),
    pack(one(before='"__metadata__":null,'), bytes(8)), pack({"__metadata__": {"x": 1}}), pack({"__metadata__": []}),
    pack('{"__metadata__":{},"__metadata__":{}}'), pack(one(name="\\ud800"), bytes(8)),
    pack(one(name="\\ud83d\\ude00"), bytes(8)), pack(one(name="\x1f"), bytes(8)), pack(one(name=""), bytes(8)),
    described(data_offsets=[0, 7]), described(data_offsets=[8, 0]), described(data_offsets=[1, 9]), described(data_offsets=[0, 8, 9]),
    described(data_offsets=[0, -8]), described(data_offsets=None), described(dtype="f32"), described(dtype="BF16", shape=[4]),
    described(dtype=None), described(shape=[-2]), described(shape=[2.0]), described(shape=[True, 2]), described(shape=["2"]),
    described(shape=[10**30]), described(shape=[2**40, 2**40, 0]), described(shape=[1] * 70 + [2]), described(shape=None),
    described(b"", shape=[0, 2**40], data_offsets=[0, 0]), described(b"", shape=[0, 2**62], data_offsets=[0, 0]),
    described(dtype="BOOL", shape=[8], data=b"\0\1\2\3\4\5\6\7"), described(further=[1, {"x": None}]),
    *(pack(one(F32_PAIR.replace("[2]", f"[{number}]")), bytes(8)) for number in ("-0", "2e0", "02", "+2", "0x2", "1" * 5000)),
    *(pack(one(F32_PAIR[:-1] + f',"x":{x}' + "}"), bytes(8)) for x in ("1e999", "NaN", "-Infinity", "9" * 30, "9" * 400, '"\\udc00"')),
    *(pack(one(F32_PAIR[:-1] + ',"x":' + "[" * n + "]" * n + "}"), bytes(8)) for n in (120, 125, 126, 200, 3000)),
    pack("[" * 300_000), pack('{"a":' * 300_000), pack('"' * 100_001), pack('"\\' * 100_001), pack("[1," * 100_000),
    pack({"a": json.loads(F32_PAIR), "b": json.loads(F32_PAIR)}, bytes(8)),
    pack({"a": json.loads(F32_PAIR), "b": {"dtype": "U8", "shape": [1], "data_offsets": [9, 10]}}, bytes(10)),
    pack({"a": json.loads(F32_PAIR), "b": {"dtype": "U8", "shape": [0], "data_offsets": [4, 4]}}, bytes(8)),
    pack({"a": json.loads(F32_PAIR), "b": {"dtype": "U8", "shape": [0], "data_offsets": [8, 8]}}, bytes(8)),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CHOSEN)))
def test_verdict_on_chosen_files_is_the_official_one(case):
    data = CHOSEN[case]
    expected = official_verdict(data)
    if expected is None:
        with pytest.raises(FormatError, match="the data is not a sound safetensors file"):
            safetensors_numpy.read(data)
    else:
        assert_same_tensors(safetensors_numpy.read(data)[0], expected)


@pytest.mark.parametrize(
    "data",
    [
        pack(one(before=f'"a":{F32_PAIR},'), bytes(8)),
        pack('{"__metadata__":{"x":"1","x":"2"}}'),
        pack('{"a":["F32",[2],[0,8]]}', bytes(8)),
        described(dtype={"F32": None}),
    ],
)
def test_stricter_than_the_official_reader_where_documented(data):
    assert official_verdict(data) is not None
    with pytest.raises(FormatError):
        safetensors_numpy.read(data)


def restructured(data, rng):
    """`data` with its header changed as JSON, so that the damage lies deeper than the parser."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = str(rng.choice([name for name in header if name != "__metadata__"]))
    values = [0, 1, 2, 3, 4, 8, 16, -1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 1.5, None, "1", [], {}, True]
    value = values[int(rng.integers(len(values)))]
    field = str(rng.choice(["dtype", "shape", "data_offsets", "further", ""]))
    if field == "":
        header[name] = value
    elif field in ("shape", "data_offsets") and header[name][field] and rng.random() < 0.8:
        header[name][field][int(rng.integers(len(header[name][field])))] = value
    elif field == "dtype" and rng.random() < 0.8:
        header[name][field] = str(rng.choice(["F32", "I64", "U8", "BOOL", "BF16", "F4", "C64"]))
    else:
        header[name][field] = value
    return pack(header, data[8 + length :])


def test_verdict_on_4000_mutated_files_is_the_official_one():
    rng = np.random.default_rng(0)
    sound = [
        official.save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4), "c": np.array([True])}, {"k": "v"}),
        official.save({"x": np.zeros((0, 3), np.float16), "y": np.array(3, np.uint8)}),
        official.save({"one": np.ones(16, np.uint8), "two": np.ones(2, np.int16)}, {"schema": "s/1", "text": "\u00e9\n"}),
    ]
    accepted = 0
    for case in range(4000):
        base = sound[case % len(sound)]
        data = mutate(base, rng) if case % 2 else restructured(base, rng)
        expected = official_verdict(data)
        try:
            tensors = safetensors_numpy.read(data)[0]
        except FormatError as error:
            assert expected is None or "twice" in str(error), f"case {case} refused alone: {error} {data!r}"
        else:
            assert expected is not None, f"case {case} accepted alone: {data!r}"
            assert_same_tensors(tensors, expected)
            accepted += 1
    assert 200 < accepted < 2000


@moderate
@given(data=st.binary(max_size=64))
def test_arbitrary_bytes(data):
    for candidate in (data, pack(data), pack(one(), data)):
        expected = official_verdict(candidate)
        if expected is None:
            with pytest.raises(FormatError):
                safetensors_numpy.read(candidate)
        else:
            assert_same_tensors(safetensors_numpy.read(candidate)[0], expected)


def test_files_are_refused_in_time(tmp_path):
    sound = official.save({"a": np.zeros((20, 3), np.float32), "b": np.arange(9)}, {"k": "v"})
    assert assert_refuses_cleanly(safetensors_numpy.read, sound, tmp_path / "a", 500) > 300


def test_limits():
    sound = official.save({"a": np.zeros(100, np.float32)})
    with pytest.raises(InputError, match="more than the 100 that are accepted"):
        safetensors_numpy.read(sound, limits=Limits(file_bytes=100))
    with pytest.raises(FormatError, match="header has"):
        safetensors_numpy.read(sound, limits=Limits(header_bytes=20))


def test_memory_stays_near_the_file_size(tmp_path):
    path = tmp_path / "a"
    safetensors_numpy.write(path, {"a": np.ones((1000, 1000), np.float32), "b": np.ones((500, 1000))})
    assert peak_memory(lambda: safetensors_numpy.read(path)) < 1.1 * path.stat().st_size
    liar = described(shape=[2**40], data_offsets=[0, 2**42])
    assert peak_memory(lambda: safetensors_numpy.read(liar)) < 100_000
    tracemalloc.start()
    safetensors_numpy.write(path, {"a": np.ones((1000, 1000), np.float32)})
    assert tracemalloc.get_traced_memory()[1] < 4.5e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"a": np.array(["x"])}, None), ({"a": np.array([None])}, None), ({"a": np.zeros(2, np.complex128)}, None),
        ({"__metadata__": np.zeros(2)}, None), ({1: np.zeros(2)}, None), ({"\ud800": np.zeros(2)}, None),
        ({}, {"a": 1}), ({}, {1: "a"}), ({}, {"a": "\udfff"}),
    ],
)  # fmt: skip
def test_write_refuses_what_the_format_lacks(tmp_path, tensors, metadata):
    with pytest.raises(InputError):
        safetensors_numpy.write(tmp_path / "a", tensors, metadata)
    assert list(tmp_path.iterdir()) == []
