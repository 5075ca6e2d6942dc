# SPDX-License-Identifier: Apache-2.0
"""Stages that are done are not done again."""

import json

import pytest

from mvp4d_core.journal import Journal, digest


def test_a_stage_runs_once_until_its_key_or_files_change(tmp_path):
    ran = []

    def work():
        ran.append(1)
        (tmp_path / "a.txt").write_text("x")

    assert Journal(tmp_path).run("one", "k", ["a.txt"], work)
    assert not Journal(tmp_path).run("one", "k", ["a.txt"], work)
    (tmp_path / "a.txt").unlink()
    assert Journal(tmp_path).run("one", "k", ["a.txt"], work)
    assert Journal(tmp_path).run("one", "other", ["a.txt"], work)
    assert len(ran) == 3


def test_an_interrupted_stage_is_not_done_and_its_time_counts(tmp_path):
    def stop():
        raise KeyboardInterrupt

    journal = Journal(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        journal.run("one", "k", [], stop)
    before = json.loads((tmp_path / "stages.json").read_text())["one"]["seconds"]
    assert Journal(tmp_path).run("one", "k", [], lambda: None)
    assert json.loads((tmp_path / "stages.json").read_text())["one"]["seconds"] >= before
    assert list(Journal(tmp_path).seconds()) == ["one"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"one": 3}', '{"one": {"key": "k"}}', "\x00"])
def test_a_damaged_journal_only_costs_time(tmp_path, text):
    (tmp_path / "stages.json").write_text(text)
    assert Journal(tmp_path).run("one", "k", [], lambda: None)


def test_digest_sees_every_part():
    assert digest(1, "a", None) == digest(1, "a", None) != digest(1, "a", 0)
