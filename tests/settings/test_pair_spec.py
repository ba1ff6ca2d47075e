"""Which two models TARGET:DRAFT names, where names hold colons too."""

from __future__ import annotations

import pytest

from stairs_core.errors import InputError
from stairs_core.measuring.runner import _shared
from stairs_core.models.load import load_pair, locate
from stairs_core.settings.pair_spec import split
from stairs_core.web import presets

PINNED = "a/b@" + "0123456789" * 4


@pytest.mark.parametrize(
    ("spec", "folders", "found"),
    [
        ("a/b:c/d", (), ("a/b", "c/d")),
        ("gpt2:c/d", (), ("gpt2", "c/d")),
        (f"{PINNED}:c/d", (), (PINNED, "c/d")),
        (f"{PINNED}:{PINNED}/e.gguf", (), (PINNED, f"{PINNED}/e.gguf")),
        (r"C:\t:C:\d", (), (r"C:\t", r"C:\d")),
        (r"C:\t:C:\d", (r"C:\t", r"C:\d"), (r"C:\t", r"C:\d")),
        ("C:/models/t:D:/d", (), ("C:/models/t", "D:/d")),
        (r"C:\t:org/draft", (), (r"C:\t", "org/draft")),
        (r"org/target:C:\d", (), ("org/target", r"C:\d")),
        (r"C:\t:..\d", (), (r"C:\t", r"..\d")),
        ("/x/a:b:/y/d", ("/x/a:b", "/y/d"), ("/x/a:b", "/y/d")),
        ("/x/a:b:/y/d", ("/x/a", "b:/y/d"), ("/x/a", "b:/y/d")),
        ("org/t:/y/a:b", ("/y/a:b",), ("org/t", "/y/a:b")),
        ("./nowhere/a:./nowhere/b", (), ("./nowhere/a", "./nowhere/b")),
        (r"C:\t", (), None),
        ("C:/t", (), None),
        ("a", (), None),
        ("a:", (), None),
        (":b", (), None),
        ("a:b:c", (), None),
        ("", (), None),
    ],
)
def test_a_pair_is_split_where_its_parts_can_be_models(spec, folders, found):
    assert split(spec, folders.__contains__) == found


def test_folders_with_colons_are_found(tmp_path, monkeypatch):
    for name in ("a:b", "C:", "C:/d"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    spec = f"{tmp_path}/a:b:{tmp_path}/C:/d"
    assert locate(spec) == (f"{tmp_path}/a:b", f"{tmp_path}/C:/d")
    assert presets.resolve(spec) == spec
    assert presets.label(spec) == "a:b after d"
    assert _shared(spec) == "a:b:d"
    with pytest.raises(InputError, match="There is no pair"):
        locate(r"C:\nowhere")
    with pytest.raises(InputError, match=r"There is no folder C:\\t"):
        load_pair(r"C:\t:C:\d", "cpu")
