# SPDX-License-Identifier: Apache-2.0
"""Builds the Blender extension: `python tools/build_blender_addon.py [FOLDER]` writes FOLDER/mvp4d-VERSION.zip (FOLDER is `dist`).

The zip holds the add-on, the workflows that make avatars of photos, and one wheel, pure Python, with the part of `mvp4d_core` that the
add-on imports and the heads beside it. Blender unpacks the wheel where its Python finds it, so `import mvp4d_core` is the same line in the
product as in the tests, and the zip fits every system and Python. What the wheel must hold is found by following the imports; an import of
anything but the standard library, numpy and Blender stops the build.
The same sources give the same bytes.
"""

import argparse
import ast
import base64
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CORE = "mvp4d_core"
ADDON = "blender_addon"
ALLOWED = {*sys.stdlib_module_names, "numpy", "bpy", "bpy_extras", "mathutils", CORE}

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can tell
_LICENCES = "LICENSE*"


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the Blender extension as one zip for all systems.")
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "dist", help="where the zip goes (default: dist)")
    sys.stdout.write(f"{build(parser.parse_args().folder)}\n")


def build(folder: Path) -> Path:
    """Writes the extension into `folder` and returns the zip."""
    addon = sorted((REPOSITORY / ADDON).glob("*.py"))
    version = _version(REPOSITORY / CORE / "__init__.py")
    wheel = f"{CORE}-{version}-py3-none-any.whl"
    manifest = (REPOSITORY / ADDON / "blender_manifest.toml").read_text(encoding="utf-8")
    files = {path.name: path.read_bytes() for path in (*addon, *(REPOSITORY / ADDON).glob(_LICENCES))}
    files |= {f"workflows/{path.name}": path.read_bytes() for path in workflows()}
    files["blender_manifest.toml"] = with_wheel(manifest, wheel).encode()
    files[f"wheels/{wheel}"] = build_wheel(version, imported_modules(addon))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"mvp4d-{version}.zip"
    target.write_bytes(_zipped(files))
    return target


def workflows() -> list[Path]:
    """The workflows that take a photo and save an avatar."""
    paths = sorted((REPOSITORY / "workflows" / "api").glob("*.json"))
    return [path for path in paths if all(f'"{node}"' in path.read_text(encoding="utf-8") for node in ("LoadImage", "MVP4D_SaveAvatar"))]


def with_wheel(manifest: str, wheel: str) -> str:
    """The manifest with the wheel named in it, before its first table."""
    first_table = manifest.index("\n[")
    return f'{manifest[:first_table]}wheels = ["./wheels/{wheel}"]\n{manifest[first_table:]}'


def imported_modules(files: Iterable[Path]) -> list[Path]:
    """The files of the core that `files` import, directly or not, in the order of their names.

    Raises:
        SystemExit: one of them imports a package that Blender does not have.
    """
    found: set[Path] = set()
    pending = list(files)
    while pending:
        path = pending.pop()
        for name in _imports(path):
            if name.split(".")[0] not in ALLOWED:
                raise SystemExit(f"{path.relative_to(REPOSITORY)} imports {name}, which Blender's Python does not have.")
            new = [module for module in _module_files(name) if module not in found]
            found.update(new)
            pending.extend(new)
    return sorted(found)


def _imports(path: Path) -> Iterable[str]:
    """The absolute names of all modules that a file imports; of `from a import b` both a and a.b, since b may be a module."""
    package = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.split(".")[0] != ADDON:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _module_files(name: str) -> list[Path]:
    """The files that importing `name` runs: the packages on the way and the module, as far as they are files of the core."""
    parts = name.split(".")
    if parts[0] != CORE:
        return []
    bases = [REPOSITORY.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
    candidates = [path for base in bases for path in (base / "__init__.py", base.with_suffix(".py"))]
    return [path for path in candidates if path.is_file()]


def build_wheel(version: str, modules: Iterable[Path]) -> bytes:
    """A wheel of these files of the core and the `assets` beside them."""
    info = f"{CORE}-{version}.dist-info"
    modules = sorted(modules)
    assets = sorted({asset for module in modules for asset in (module.parent / "assets").glob("*.safetensors")})
    files = {path.relative_to(REPOSITORY).as_posix(): path.read_bytes() for path in (*modules, *assets)}
    files |= {f"{info}/licenses/{path.name}": path.read_bytes() for path in sorted(REPOSITORY.glob(_LICENCES))}
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.4\nName: mvp4d-core\nVersion: {version}\nSummary: What MVP4D's Blender add-on needs of its core\n"
        "License-Expression: Apache-2.0\nRequires-Python: >=3.10\nRequires-Dist: numpy>=1.26\n"
    ).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: mvp4d\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    return _zipped(files)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _version(path: Path) -> str:
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__":
            return ast.literal_eval(node.value)
    raise SystemExit(f"{path} has no __version__.")


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
