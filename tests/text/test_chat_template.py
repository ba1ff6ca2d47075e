"""Chat templates: what they are filled in with, what they refuse, and where an answer ends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from shell import refused
from tiny_models import make_model, make_pieces, make_tokenizer, perturb, save_pair

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models import load
from stairs_core.models.load import load_pair
from stairs_core.render import snippets
from stairs_core.render.terminal import trace
from stairs_core.settings.settings import Settings, option_words, template_options
from stairs_core.text import chat_template
from stairs_core.text.chat_template import ends
from stairs_core.text.tokens import encode
from stairs_core.traces import files
from stairs_core.web import permalinks

PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}[a]"
THINKING = PLAIN + "{% if enable_thinking is defined and not enable_thinking %}no{% endif %}"
STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + PLAIN
)
DEAF = PLAIN.replace("in messages", "in messages if m.role != 'system'")
SYSTEM = {"system": "Be brief."}


def chatting(template, tokenizer=None):
    tokenizer = tokenizer or make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def ids(chat_template, **options) -> str:
    tokenizer = chatting(chat_template)
    found = encode(tokenizer, "hi fox", chat=True, context_length=200, **options)
    return tokenizer.decode(found)


def test_a_system_prompt_and_options_reach_the_template():
    assert ids(THINKING) == "[user]hi fox</s>[a]"
    assert ids(THINKING, **SYSTEM) == "[system]Be brief.</s>[user]hi fox</s>[a]"
    assert ids(THINKING, template={"enable_thinking": False}) == "[user]hi fox</s>[a]no"
    assert ids(THINKING, template={"enable_thinking": True}) == "[user]hi fox</s>[a]"
    tools = PLAIN + "{{ tools | length }}"
    assert ids(tools, template={"tools": [{"name": "dig"}]}).endswith("[a]1")


@pytest.mark.parametrize(
    ("template", "options", "words"),
    [
        (STRICT, SYSTEM, "chat template does not take this chat .System role not supported"),
        ("{{ messages[3].content.x }}", {}, "chat template does not take this chat"),
        ("{% if %}", {}, "chat template does not take this chat"),
        ("{{ 1 / 0 }}", {}, "chat template does not take this chat"),
        ({"rag": PLAIN}, {}, "chat template does not take this chat"),
        (DEAF, SYSTEM, "leaves out the system prompt"),
        (PLAIN, {"template": {"enable_thinking": False}}, "no option 'enable_thinking'"),
        (PLAIN, {"template": {"tokenize": False}}, "tokenize is not an option"),
        (PLAIN, {"template": {"messages": []}}, "messages is not an option"),
        (None, {}, "has no chat template"),
    ],
)
def test_what_a_template_refuses_is_one_sentence(template, options, words):
    with pytest.raises(InputError, match=words) as caught:
        ids(template, **options)
    assert str(caught.value).endswith(".")
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize("tag", ["", "{% generation %}{% endgeneration %}"])
def test_a_word_that_a_template_writes_is_no_option_of_it(tag):
    """Nor one that it has itself; and constants in it are not worked out."""
    template = "You are a fox. " + THINKING + "{{ 'as b' }}{% if 0 %}{{ 9**9**9**9 }}{% endif %}"
    tokenizer = chatting(template + tag)
    chat_template._check_options(tokenizer, {"enable_thinking": True})
    for name in ("a", "fox", "as", "b", "role", *([] if tag else ["m"])):
        with pytest.raises(InputError, match=f"no option '{name}'"):
            chat_template._check_options(tokenizer, {name: 1})


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["enable_thinking=false"], {"enable_thinking": False}),
        (["a=False", "b=None", "c= true "], {"a": False, "b": None, "c": True}),
        (["effort=high", "n=3", "x=1.5"], {"effort": "high", "n": 3, "x": 1.5}),
        (['tools=[{"name": "dig"}]', "eq=a=b", "e="], {"tools": [{"name": "dig"}], "eq": "a=b",
         "e": ""}),
        (["n=NaN", 's="3"', 's2="a\\nb"'], {"n": "NaN", "s": "3", "s2": "a\nb"}),
        (["a=1", "a=2"], {"a": 2}),
    ],
)  # fmt: skip
def test_options_are_read_and_written_back(words, found):
    assert template_options(words) == found
    assert template_options("\n".join(option_words(found)).splitlines()) == found


@pytest.mark.parametrize("word", ["thinking", "=3", "a b=3", "1a=2"])
def test_options_without_a_name_are_refused(word):
    with pytest.raises(InputError, match="write NAME=VALUE"):
        template_options([word])


def test_what_is_for_chat_needs_chat():
    for given in (SYSTEM, {"template": {"a": 1}}):
        with pytest.raises(InputError, match="for the chat template alone"):
            Settings(**given)
    for bad in ({"a": float("nan")}, {"a": object()}, {"a b": 1}, [1]):
        with pytest.raises(InputError, match="JSON"):
            Settings(chat=True, template=bad)  # type: ignore[arg-type]
    alone = Settings(chat=True, template={"a": 1}, **SYSTEM).alone()
    assert (alone.system, alone.template) == ("Be brief.", {"a": 1})


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Its configured end is 3; its template ends a turn with an added special token."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|pad|>", "<|eot|>"]})
    turn = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot|>\n{% endfor %}"
    end = "{% if add_generation_prompt %}assistant: {% endif %}{{ style }}"
    tokenizer.chat_template = turn + end
    target = make_model(seed=5, vocab_size=len(tokenizer))
    target.generation_config.eos_token_id = [3]
    folder = tmp_path_factory.mktemp("chat")
    save_pair(folder, target, perturb(target), tokenizer)
    return load_pair(str(folder), "cpu", "float32", "off")


def test_an_answer_ends_at_the_templates_end_and_at_the_configured_one(pair):
    turn = pair.tokenizer.convert_tokens_to_ids("<|eot|>")
    assert ends(pair.tokenizer) == {0, turn}
    assert pair.eos_ids == {3}
    assert pair.for_chat.eos_ids == {0, 3, turn}
    assert pair.for_chat is pair.for_chat
    run = Runner(pair, "hi fox", Settings(chat=True)).run
    assert run.eos_ids == (0, 3, turn)
    assert Runner(pair, "hi fox", Settings()).run.eos_ids == (3,)
    assert f"eos_token_id=[0, 3, {turn}]" in snippets.generate(run)
    assert "eos_token_id" not in snippets.generate(Runner(pair, "x", Settings()).run)


@pytest.mark.parametrize("drafter", ["none", "model", "lookup"])
def test_a_run_ends_at_either(pair, drafter):
    turn = pair.tokenizer.convert_tokens_to_ids("<|eot|>")
    plain = {c: decoded(pair, Settings("none", 3, 16, chat=c), pair.eos_ids) for c in (True, False)}
    for chat, end, stop in ((True, turn, "eos"), (True, 3, "eos"), (False, turn, "length")):
        text = [t.id for s in plain[chat].steps for t in s.committed]
        at = next(i for i in range(4, 16) if text[i] not in text[:i])
        head = pair.target.lm_head.weight.data
        kept = head[end].clone()
        head[end] = head[text[at]] * 1.0001  # now ``end`` comes where that token did
        try:
            runner = decoded(pair, Settings(drafter, 3, 16, chat=chat))
        finally:
            head[end] = kept
        tokens = [t for s in runner.steps for t in s.committed]
        assert (tokens[at].id, runner.steps[-1].stop) == (end, stop)
        assert len(tokens) == (at + 1 if stop == "eos" else 16)
        if end == turn:
            assert (tokens[at].text, tokens[at].special) == ("", "<|eot|>")
            assert "<|eot|>" not in runner.recording().stop.text


def decoded(pair, settings, without=frozenset()) -> Runner:
    runner = Runner(replace(pair, eos_ids=pair.eos_ids - without), "hi fox", settings)
    list(runner.decode())
    return runner


def test_the_command_line_asks_and_every_record_tells(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(load, "load_pair", lambda *_, **__: pair)
    file = tmp_path / "t.jsonl"
    asked = ["--chat", "--system", "-Be brief.", "--template-option", "style=dry", "--trace"]
    base = ["run", "--prompt", "hi fox", "--max-new-tokens", "6", "--json"]
    assert main.main([*base, *asked, str(file)]) == 0
    capsys.readouterr()
    (saved,) = files.read(file)
    run = saved.run
    assert (run.system, run.template) == ("-Be brief.", {"style": "dry"})
    assert "<|eot|>" in run.prompt_special.values()
    held = permalinks.unpack_settings(permalinks.pack_settings(permalinks.settings_of(run, [])))
    assert (held["system"], held["options"]) == ("-Be brief.", "style=dry")
    drawn = trace.draw([saved], 300)
    assert "System prompt: -Be brief." in drawn
    assert "chat template with a system prompt and style=dry" in drawn
    assert "system='-Be brief.', template={'style': 'dry'}" in snippets.python(run)
    shell = snippets.shell(run)
    assert "--system='-Be brief.'" in shell
    assert "--template-option=style=dry" in shell
    names: dict = {"tokenizer": pair.tokenizer, "prompt": run.prompt}
    inputs = snippets.generate(run).split("prompt = ")[1].partition("\n")[2]
    exec(inputs.partition("out =")[0], names)
    assert names["inputs"]["input_ids"][0].tolist() == [*run.prompt_ids]


def test_a_template_that_raises_is_bad_input(pair, monkeypatch, capsys):
    tokenizer = chatting("{{ raise_exception('No turns today') }}", make_tokenizer())
    broken = replace(pair, tokenizer=tokenizer, draft_tokenizer=tokenizer)
    monkeypatch.setattr(load, "load_pair", lambda *_, **__: broken)
    for command in ("run", "race"):
        said = refused(main.main([command, "--prompt", "x", "--chat"]), *capsys.readouterr())
        assert "chat template" in said
        assert "No turns today" in said
    without = ["run", "--prompt", "x", "--no-chat", "--system", "y"]
    said = refused(main.main(without), *capsys.readouterr())
    assert "--chat" in said


@pytest.mark.parametrize("prompt", ["<s>a fox", "<s>", "a fox", "<s><s>a fox", "a <s> fox"])
def test_a_start_that_is_there_is_not_put_before_it_again(prompt):
    tokenizer = make_pieces()
    found = encode(tokenizer, prompt, context_length=99)
    bare = tokenizer.encode(prompt, add_special_tokens=False)
    assert found == (bare if prompt.startswith("<s>") else [1, *bare])


@pytest.mark.parametrize("prompt", ["<s>a fox</s>", "a fox</s>", "<s>a fox", "a fox"])
def test_nor_an_end_behind_it(prompt):
    from tokenizers import processors

    tokenizer = make_pieces()
    both = [("<s>", 1), ("</s>", 2)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", None, both
    )
    found = encode(tokenizer, prompt, context_length=99)
    assert (found.count(1), found.count(2)) == (1, 1)
    assert (found[0], found[-1]) == (1, 2)


def test_the_code_that_repeats_it_does_not_either(tmp_path):
    target = make_model(vocab_size=400)
    save_pair(tmp_path, target, perturb(target), make_pieces())
    pair = load_pair(str(tmp_path), "cpu", "float32", "off")
    for prompt in ("<s>a fox", "a fox"):
        run = Runner(pair, prompt, Settings()).run
        code = snippets.generate(run).split("prompt = ")[1].partition("\n")[2]
        names: dict = {"tokenizer": pair.tokenizer, "prompt": prompt, "torch": torch}
        exec(code.partition("out =")[0], names)
        assert names["inputs"]["input_ids"][0].tolist() == [*run.prompt_ids]
        assert json.loads(json.dumps(run.prompt_special)) == {"1": "<s>"}


def test_a_chat_template_is_used_where_the_tokenizer_has_one(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[a]"
    target = make_model()
    pair = load_pair(str(save_pair(tmp_path, target, perturb(target), tokenizer)), device="cpu")
    assert pair.has_chat_template
    chat, plain = (Runner(pair, "hi fox", Settings(chat=c)).run for c in (True, False))
    assert "".join(chat.prompt_tokens) == "[user]hi fox[a]"
    assert "".join(plain.prompt_tokens) == "hi fox"
    assert chat.chat
