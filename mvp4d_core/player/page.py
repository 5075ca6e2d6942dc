# SPDX-License-Identifier: Apache-2.0
"""One HTML file that holds the player and an avatar, and asks the network for nothing.

The modules are linked into one script, since a page opened from disk may not import others. A content security policy admits that script
and that style sheet by their digests: nothing else on the page could run, whatever it says. The avatar is base64 in an element that is
data to the browser, and its title is escaped.
"""

import base64
import hashlib
import html
import re
from pathlib import Path
from string import Template

from ..avatar import GaussianAvatar
from ..io.atomic import atomic_text
from ..rig import Performance
from .pack import pack_avatar

FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^(import|export) \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORTED = re.compile(r"^export ((?:async )?function|const|class) (\w+)", re.MULTILINE)
_LOCAL = re.compile(r"^export \{([^}]*)\};$", re.MULTILINE)


def write_page(path: str | Path, avatar: GaussianAvatar, performance: Performance | None = None, *, title: str | None = None) -> None:
    """Writes the page, atomically. Without a title it has the file's name.

    Raises:
        InputError: as `pack_avatar`.
        StorageError: the file cannot be written.
    """
    title = Path(path).stem if title is None else title
    atomic_text(path, player_page(pack_avatar(avatar, performance, title=title), title))


def player_page(packed: bytes, title: str) -> str:
    """The page that plays what `pack_avatar` gave."""
    script, style = linked_script("page"), _source("player.css") + _source("page.css")
    policy = f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; worker-src blob:; base-uri 'none'"
    return Template(_source("page.html")).substitute(
        policy=policy, title=html.escape(title), style=style, script=script, avatar=base64.b64encode(packed).decode("ascii")
    )


def linked_script(entry: str) -> str:
    """The module `entry` and all that it imports as one script. Each module is a function that returns what it exports.

    Takes the forms of import and export that the player's modules use: names in braces, from files beside them, without renaming.
    """
    linked: dict[str, str] = {}

    def link(name: str) -> None:
        source = _source(f"{name}.js")
        for _, _, other in _IMPORT.findall(source):
            if other not in linked:
                link(other)
        exported = [symbol for _, symbol in _EXPORTED.findall(source)]
        exported += [symbol.strip() for symbols in _LOCAL.findall(source) for symbol in symbols.split(",")]
        exported += [symbol.strip() for kind, symbols, _ in _IMPORT.findall(source) if kind == "export" for symbol in symbols.split(",")]
        body = _IMPORT.sub(r"const {\2} = \3_module;", source)
        body = _LOCAL.sub("", _EXPORTED.sub(r"\1 \2", body))
        if name == entry:
            linked[name] = body
        else:
            linked[name] = f"const {name}_module = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();\n"

    link(entry)
    return "\n" + "".join(linked.values())


def _source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
