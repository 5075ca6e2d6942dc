# SPDX-License-Identifier: Apache-2.0
"""FLAME's files as its site hands them out, written opcode by opcode: Python 2 pickles of chumpy's and scipy's objects."""

import struct

import numpy as np

from mvp4d_core.rig import HeadModel

CHUMPY = ("v_template", "shapedirs", "posedirs")  # wrapped in files that Python 2 wrote


def flame_tables(model: HeadModel) -> dict[str, np.ndarray]:
    """The arrays of a FLAME pickle, in its dtypes."""
    parents = model.parents.astype(np.int64)
    parents[0] = 2**32 - 1
    return {
        "v_template": model.v_template.astype(np.float64),
        "f": model.faces.astype(np.uint32),
        "shapedirs": np.concatenate([model.shapedirs, model.exprdirs], axis=2).astype(np.float64),
        "posedirs": model.posedirs.astype(np.float64),
        "J_regressor": model.J_regressor.astype(np.float64),
        "kintree_table": np.stack([parents, np.arange(len(parents))]),
        "weights": model.lbs_weights.astype(np.float64),
    }


def python2_pickle(tables: dict[str, np.ndarray], *, protocol: int = 2, chumpy: bool = True, sparse: bool = True) -> bytes:
    """A dictionary of arrays as Python 2 pickles it; `J_regressor` a csc_matrix and `CHUMPY` chumpy's, if so wished."""
    out = [
        b"\x80\x02" if protocol == 2 else b"",
        b"}" if protocol == 2 else b"(d",
        _text("bs_type", protocol),
        _text("lrotmin", protocol),
        b"s",
    ]
    for name, array in tables.items():
        if sparse and name == "J_regressor":
            content = _sparse(array, protocol)
        elif chumpy and name in CHUMPY:
            state = b"(" + b"".join([_text("x", protocol), _array(array, protocol), _text("_dirty_vars", protocol), _empty_set(protocol)])
            content = _object("chumpy.ch\nCh\n", state + b"d", protocol)
        else:
            content = _array(array, protocol)
        out += [_text(name, protocol), content, b"s"]
    return b"".join(out) + b"."


def object_npy(pickle: bytes) -> bytes:
    """A .npy file with a dictionary inside, as numpy.save makes it: `pickle` holds the dictionary and ends with a full stop."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    body = b"\x80\x02" if pickle.startswith(b"\x80\x02") else b""
    inner = pickle[len(body) : -1]
    dtype = b"cnumpy\ndtype\n(" + _text("O8", 2) + b"K\x00K\x01tR(K\x03" + _text("|", 2) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(header))
        + header
        + body
        + _RECONSTRUCT
        + b"(K\x01)"
        + dtype
        + b"\x89]"
        + inner
        + b"atb."
    )


_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"


def _text(text: str, protocol: int) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode() if protocol == 2 else f"S'{text}'\n".encode()


def _data(raw: bytes, protocol: int) -> bytes:
    if protocol == 2:
        return b"T" + struct.pack("<I", len(raw)) + raw
    return b"S" + repr(raw)[1:].encode("ascii") + b"\n"


def _int(value: int) -> bytes:
    return f"I{value}\n".encode()


def _array(array: np.ndarray, protocol: int) -> bytes:
    code = array.dtype.str[1:]
    dtype = b"cnumpy\ndtype\n(" + _text(code, protocol) + _int(0) + _int(1) + b"tR("
    dtype += _int(3) + _text("<", protocol) + b"NNN" + _int(-1) + _int(-1) + _int(0) + b"tb"
    start = _RECONSTRUCT if protocol == 2 else b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    shape = b"(" + b"".join(_int(side) for side in array.shape) + b"t"
    return start + b"(" + _int(1) + shape + dtype + b"I00\n" + _data(array.tobytes(), protocol) + b"tb"


def _object(name: str, state: bytes, protocol: int) -> bytes:
    if protocol == 2:
        return b"c" + name.encode() + b")\x81" + state + b"b"
    return b"ccopy_reg\n_reconstructor\n(c" + name.encode() + b"c__builtin__\nobject\nNtR" + state + b"b"


def _empty_set(protocol: int) -> bytes:
    return b"c__builtin__\nset\n((ltR"


def _sparse(dense: np.ndarray, protocol: int) -> bytes:
    rows, columns = np.nonzero(dense.T)[::-1]
    starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=dense.shape[1]))]).astype(np.int32)
    parts = {"data": dense[rows, columns], "indices": rows.astype(np.int32), "indptr": starts}
    state = b"(" + b"".join(_text(name, protocol) + _array(array, protocol) for name, array in parts.items())
    state += _text("_shape", protocol) + b"(" + b"".join(map(_int, dense.shape)) + b"t" + _text("maxprint", protocol) + _int(50) + b"d"
    return _object("scipy.sparse.csc\ncsc_matrix\n", state, protocol)
