# SPDX-License-Identifier: Apache-2.0
"""Every word of the interface has its translation, and no translation outlives its word."""

import ast
import string
from pathlib import Path

import bpy
import pytest

import blender_addon
from blender_addon import face_regions, properties, registration, translations

Message = tuple[str, str]
_FOLDER = Path(blender_addon.__file__).parent
_OWN_OF_BLENDER = {"filepath", "files", "directory", "filter_glob", "filter_image", "filter_folder", "filename_ext"}


def messages() -> set[Message]:
    """What Blender shows of the registered classes, and the texts that panels and polls give, as (context, English)."""
    found: set[Message] = set()
    for cls in registration.CLASSES:
        is_operator = issubclass(cls, bpy.types.Operator)
        if issubclass(cls, (bpy.types.Operator, bpy.types.Panel)):
            found.add(("Operator" if is_operator else "*", cls.bl_label))
        if is_operator:
            found.add(("*", description_of(cls)))
        if cls is not properties.MVP4D_PG_both_sides:  # ARKit's names are the same in every language
            for prop in own_properties(cls):
                found |= _of_property(prop)
    for path in _FOLDER.glob("*.py"):
        found |= set(_of_code(path))
    return {message for message in found if any(letter in string.ascii_letters for letter in message[1])}


def own_properties(cls: type) -> list[bpy.types.Property]:
    """The properties that a class of the add-on declares."""
    known = (_operator(cls) if issubclass(cls, bpy.types.Operator) else cls.bl_rna).properties
    owners = [owner for owner in cls.__mro__ if owner.__module__.startswith("blender_addon")]
    names = {name for owner in owners for name in vars(owner).get("__annotations__", {})}
    return [known[name] for name in sorted(names - _OWN_OF_BLENDER) if not name.startswith("bl_") and name in known]


def description_of(cls: type[bpy.types.Operator]) -> str:
    """What the tooltip of an operator says."""
    return _operator(cls).description


def _operator(cls: type[bpy.types.Operator]) -> bpy.types.Struct:
    module, name = cls.bl_idname.split(".")
    return getattr(getattr(bpy.ops, module), name).get_rna_type()


def _of_property(prop: bpy.types.Property) -> set[Message]:
    found = {("*", prop.name), ("*", prop.description)}
    if prop.type == "ENUM" and prop.identifier != "workflow":  # whose items are files
        for item in prop.enum_items:
            found |= {("*", item.name), ("*", item.description)}
    return found


def _of_code(path: Path):
    """Literals that are given as `text` or `heading` to a layout, or to `poll_message_set`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(k.arg == "translate" for k in node.keywords):
            continue
        operator = isinstance(node.func, ast.Attribute) and node.func.attr.startswith("operator")
        for keyword in node.keywords:
            if keyword.arg in ("text", "heading") and isinstance(keyword.value, ast.Constant):
                yield ("Operator" if operator else "*", keyword.value.value)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "poll_message_set" and isinstance(node.args[0], ast.Constant):
            yield ("*", node.args[0].value)


@pytest.mark.parametrize("language", ["zh_HANS"])
def test_every_text_is_translated_and_none_is_left_over(addon, language):
    said, there = messages(), set(translations.TRANSLATIONS[language])
    assert not sorted(said - there), "texts without a translation"
    assert not sorted(there - said), "translations without a text"


@pytest.mark.skipif("zh_HANS" not in bpy.app.translations.locales, reason="this Blender has no other languages")
def test_translations_are_used(addon):
    translate = bpy.app.translations.pgettext
    view = bpy.context.preferences.view
    before = view.language, view.use_translate_interface, view.use_translate_tooltips
    try:
        view.language = "zh_HANS"
        view.use_translate_interface = view.use_translate_tooltips = True
        assert translate("Load Performance", "Operator") == translations.TRANSLATIONS["zh_HANS"]["Operator", "Load Performance"]
        assert translate("Both Sides") == translations.TRANSLATIONS["zh_HANS"]["*", "Both Sides"]
    finally:
        view.language = before[0]
        view.use_translate_interface, view.use_translate_tooltips = before[1:]


def test_regions_are_labelled():
    assert all(region.label and region.names() for region in face_regions.REGIONS)
