# SPDX-License-Identifier: Apache-2.0
"""The reader of FLAME's pickles: files as they exist, against Python's own unpickler, and files that mean harm."""

import io
import pickle  # noqa: TID251 -- the oracle, on files of our own
import pickletools
import subprocess
import sys
import time
import types
import warnings

import numpy as np
import pytest
import scipy.sparse

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io.limits import Limits
from mvp4d_core.rig import flame_pickle
from mvp4d_core.rig.flame_pickle import read_pickled_tables, scan, tables_of
from tests.support.flame_files import object_npy, python2_pickle
from tests.support.mutation import mutate, peak_memory

RNG = np.random.default_rng(0)
TABLES = {
    "v_template": RNG.normal(size=(5, 3)),
    "f": RNG.integers(0, 5, (6, 3)).astype(np.uint32),
    "shapedirs": RNG.normal(size=(5, 3, 7)),
    "J_regressor": np.where(RNG.random((5, 40)) < 0.3, RNG.normal(size=(5, 40)), 0.0),
    "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
    "weights": RNG.random((5, 5)),
}
SMALL = python2_pickle(TABLES)
FILES = {
    f"protocol {p}, {kind}": python2_pickle(TABLES, protocol=p, chumpy=c, sparse=c)
    for p in (0, 2)
    for kind, c in (("objects", True), ("plain", False))
}


class Ch:
    """What chumpy's class looks like to a pickle."""


class OldPickles(pickle.Unpickler):
    """Python's own, with the places that numpy and scipy had."""

    def find_class(self, module, name):
        if module.startswith("chumpy"):
            return Ch
        return super().find_class({"scipy.sparse.csc": "scipy.sparse"}.get(module, module), name)


def assert_tables(found, wanted=TABLES):
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
def test_old_files_are_read_as_python_reads_them(data):
    found = tables_of(data, TABLES, "file")
    assert_tables(found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = OldPickles(io.BytesIO(data), encoding="latin1").load()
    assert theirs["bs_type"] == "lrotmin"
    for name, array in found.items():
        value = theirs[name]
        value = value.x if isinstance(value, Ch) else value.toarray() if scipy.sparse.issparse(value) else value
        np.testing.assert_array_equal(array, value)
        assert array.dtype == value.dtype


@pytest.mark.parametrize("protocol", range(6))
def test_files_that_were_pickled_again_are_read(protocol, monkeypatch):
    module = types.ModuleType("chumpy.ch")
    again = type("Ch", (), {"__module__": "chumpy.ch"})
    module.Ch = again
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    content = dict(TABLES)
    content["shapedirs"] = again()
    content["shapedirs"].x = np.asfortranarray(TABLES["shapedirs"])
    content["J_regressor"] = scipy.sparse.csc_matrix(TABLES["J_regressor"])
    data = pickle.dumps({**content, "note": "x" * 300, "none": None, "nested": [1, (2.5, True)]}, protocol=protocol)
    assert_tables(tables_of(data, TABLES, "file"))


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_sparse_tables_of_every_kind(kind):
    matrix = scipy.sparse.coo_matrix(TABLES["J_regressor"]).asformat(kind)
    assert_tables(tables_of(pickle.dumps({"m": matrix}, 2), ["m"], "file"), {"m": TABLES["J_regressor"]})


def test_a_dictionary_inside_a_npy_is_read():
    assert_tables(tables_of(object_npy(python2_pickle(TABLES)), TABLES, "file"))
    stream = io.BytesIO()
    np.save(stream, np.array({"a": np.arange(3)}, dtype=object))
    assert_tables(tables_of(stream.getvalue(), ["a"], "file"), {"a": np.arange(3)})


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
def test_scan_sees_what_pickletools_sees(data):
    ours = [chr(opcode) for opcode, _ in scan(data)]
    try:
        theirs = [opcode.code for opcode, _, _ in pickletools.genops(data)]
    except ValueError:
        pytest.skip("pickletools does not read bytes beyond ASCII in protocol 0")
    assert ours == theirs


class Payload:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "payload",
    [Payload(eval, "1/0"), Payload(getattr, "a", "upper"), Payload(subprocess.check_call, ["false"]), Payload(np.fromfile, "/etc/passwd")],
    ids=["eval", "getattr", "process", "numpy"],
)
def test_what_would_run_is_named_and_refused(protocol, payload):
    with pytest.raises(FormatError, match=r"asks for `[a-z_.\d]+`.*Nothing of it was run"):
        tables_of(pickle.dumps({"v_template": payload}, protocol), TABLES, "file")


HOSTILE = {
    "empty": b"",
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "no end": b"\x80\x02}",
    "huge length": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "huge memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "instance": b"(ios\nsystem\n.",
    "persistent": b"Pabc\n.",
    "extension": b"\x82\x01.",
    "name from a stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "no stack": b"R.",
    "calls a number": b"K\x01)R.",
    "long number": b"I" + b"9" * 4000 + b"\n.",
    "long long": b"\x8a\xff" + b"\xff" * 255 + b".",
    "many operations": b"]" * 300_000 + b".",
    "deep": b"(" * 150_000 + b"t" * 150_000 + b".",
    "itself": b"}q\x00U\x01ah\x00s.",
    "unhashable key": b"}]K\x01s.",
    "list of itself": b"]q\x00h\x00a.",
    "memo of nothing": b"h\x05.",
    "endless encoding": b"X\xff\x00\x00\x00" + b"a" * 255 + b"q\x00" + b"c_codecs\nencode\n(h\x00U\x06latin1tR0" * 2000 + b"}.",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_get_one_line(data):
    start = time.process_time()
    try:
        assert tables_of(data, TABLES, "file") == {}
    except FormatError as error:
        assert str(error).count("\n") == 0 and len(str(error)) < 300
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(("wrong", "what"), [((-1, 3), "shape"), ((10**12, 3), "size"), ((5, 4), "size")])
def test_arrays_that_lie_about_their_size(wrong, what):
    plain = python2_pickle({"v_template": TABLES["v_template"]}, chumpy=False)
    lying = plain.replace(b"(I5\nI3\nt", f"(I{wrong[0]}\nI{wrong[1]}\nt".encode())
    assert lying != plain
    with pytest.raises(FormatError, match=what):
        tables_of(lying, TABLES, "file")


def test_a_sparse_table_too_large_is_not_made():
    data = python2_pickle(TABLES).replace(b"(I5\nI40\nt", b"(I50000000\nI40\nt")
    assert peak_memory(lambda: tables_of(data, TABLES, "file")) < 1 << 20
    with pytest.raises(FormatError, match="too large"):
        tables_of(data, TABLES, "file")


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(SMALL)
    assert_tables(read_pickled_tables(path, TABLES))
    assert path.read_bytes() == SMALL
    with pytest.raises(InputError, match="more than"):
        read_pickled_tables(path, TABLES, Limits(file_bytes=100))
    with path.open("r+b") as file:
        file.truncate(flame_pickle.FILE_BYTES + 1)
    with pytest.raises(InputError, match="more than"):
        read_pickled_tables(path, TABLES)


def test_the_reader_needs_no_unpickler():
    assert not {"pickle", "_pickle", "pickletools"} & set(vars(flame_pickle))
    code = "import sys, mvp4d_core.rig.flame_pickle; print({'scipy', 'chumpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def assert_mutants_are_refused(cases: int, seed: int) -> int:
    """Only errors of ours, nothing run, 50 ms each; memory is that of the file, which `peak_memory` tells for one in fifty."""
    rng = np.random.default_rng(seed)
    sounds = (*FILES.values(), object_npy(SMALL), pickle.dumps(TABLES, 4))
    refused, ran = 0, []
    watching = True

    def hook(event, arguments):
        if watching and (event in ("exec", "os.system", "subprocess.Popen", "open", "import", "pickle.find_class", "socket.connect")):
            if arguments[:1] != ("<string>",):  # from Python 3.13 on it looks so for the source of code that has none
                ran.append((event, arguments))

    b"a".decode("raw-unicode-escape")  # Python imports a codec at its first use
    sys.addaudithook(hook)  # cannot be taken off again, only told to look away
    try:
        for case in range(cases):
            damaged = mutate(sounds[case % len(sounds)], rng)
            start = time.process_time()
            try:
                tables_of(damaged, TABLES, "file")
            except (FormatError, InputError) as error:
                refused += 1
                assert str(error).count("\n") == 0 and len(str(error)) < 400
            assert time.process_time() - start < 0.05, f"case {case}"
            if case % 50 == 0:
                watching = False
                assert peak_memory(lambda data=damaged: tables_of(data, TABLES, "file")) < 8 << 20
                watching = True
    finally:
        watching = False
    assert not ran, ran[:3]
    return refused


def test_mutants_are_refused():
    assert assert_mutants_are_refused(3_000, seed=0) > 1_000


@pytest.mark.slow
def test_a_hundred_thousand_mutants_are_refused():
    assert assert_mutants_are_refused(100_000, seed=1) > 40_000
