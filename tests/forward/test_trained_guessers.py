"""Chimera's heads and pseudo hidden states: what runs step by step is what was trained."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from elsewhere import placed
from families import make as make_family
from tiny_models import make_model

from stairs_core.decoding import draft_lengths, samplers
from stairs_core.drafters import DrafterInputs, build
from stairs_core.errors import InputError
from stairs_core.forward import hidden_states, upper_layers
from stairs_core.forward.chimera_heads import TRIGRAM, ChimeraHeads, ChimeraText
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.forward.pseudo_states import PseudoStates, PseudoText
from stairs_core.training.heads import pseudo
from stairs_core.training.heads.chimera import over_text
from stairs_core.training.heads.features import usual_layers

IDS = torch.arange(24).view(2, 12) * 37 % 320
CLOSE = {"atol": 2e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def target():
    return make_model(layers=4)


@pytest.fixture(scope="module")
def states(target) -> dict[int, torch.Tensor]:
    """Of every layer over ``IDS``, [2, 12, 32]."""
    with torch.no_grad(), hidden_states.caught(target, (1, 2, 3, 4)) as found:
        target(IDS)
    return found


@torch.no_grad()
def test_chimera_guesses_what_its_training_computes(target, states):
    torch.manual_seed(0)
    heads = placed(ChimeraHeads(32, 3, 4, 16))
    for linear in heads.heads:
        torch.nn.init.normal_(linear.weight, std=0.1)
    embedded, hidden = hidden_states.embedding(target)[IDS[:1]], states[4][:1]
    x, mixed = over_text(heads, embedded, hidden)
    text = ChimeraText(heads)
    text.add(hidden[0, :5], 0)
    text.next(embedded[0, 3:6], 0)  # a guess of an earlier step, of which nothing may be left
    text.add(hidden[0, 3:7], 3)
    for number in range(3):
        place = 7 + number
        found = text.next(embedded[0, place + 1 - TRIGRAM : place + 1], number)
        layer = heads.rest(x[0, place], mixed[0, number, place])
        torch.testing.assert_close(found, heads.head(number, hidden[0, 6], layer), **CLOSE)


def test_chimeras_head_sees_no_hidden_state_of_a_guess(target, states):
    """Head k at position i: a change of the target's state at i - k is not seen, one before is."""
    heads = placed(ChimeraHeads(32, 3, 4, 16))
    embedded, hidden = hidden_states.embedding(target)[IDS[:1]], states[4][:1].clone()
    hidden.requires_grad_()
    for number in range(3):
        mixed = over_text(heads, embedded, hidden)[1]
        (grown,) = torch.autograd.grad(mixed[0, number, 8].sum(), hidden)
        assert [bool(row.abs().sum()) for row in grown[0]] == [True] * (8 - number) + [False] * (
            4 + number
        )


@torch.no_grad()
@pytest.mark.parametrize("layers", [(2, 2, 2), (1, 2, 3), (1, 1, 4)])
def test_a_pseudo_state_that_is_true_is_answered_as_the_target_does(target, states, layers):
    maps, cut = placed(PseudoStates(32, layers)), 5
    for number, (layer, linear) in enumerate(zip(layers, maps.maps, strict=True)):
        true = states[layer][0]
        linear.bias.copy_(true[cut + 1 + number] - true[cut])
    for model in (target, LeanLlama(target)):
        text = PseudoText(maps, model)
        text.add(states[layers[0]][0, :4], 0)
        found = text.add(states[layers[0]][0, 2 : cut + 1], 2)
        torch.testing.assert_close(found, states[4][0, cut + 1 : cut + 4], **CLOSE)


@torch.no_grad()
def test_pseudo_tokens_of_several_cuts_do_not_meet(target, states):
    torch.manual_seed(0)
    maps = placed(PseudoStates(32, (1, 2)))
    for weight in maps.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    cuts = torch.tensor([3, 7, 10])
    trained = maps(target, states[1], cuts)
    for number, cut in enumerate(cuts.tolist()):
        alone = PseudoText(maps, target).add(states[1][1, : cut + 1], 0)
        torch.testing.assert_close(trained[1, number], alone, **CLOSE)


def test_models_whose_layers_do_not_run_alone_are_refused():
    for family in ("GPT2", "Gemma2"):
        with pytest.raises(InputError, match="cannot be run alone here"):
            upper_layers.check(make_family(family))


def test_what_was_not_used_is_kept_until_it_is():
    unused = hidden_states.Unused()
    assert unused.take(3) is None
    rows = torch.arange(9.0).view(9, 1, 1)
    unused.add(rows[:4], 4)
    unused.add(rows[4:6], 6)
    found, start = unused.take(6)
    assert (start, found.flatten().tolist()) == (0, [0, 1, 2, 3, 4, 5])
    unused.add(rows[6:8], 8)
    assert unused.take(9) is None
    unused.add(rows[:2], 2)  # another text
    found, start = unused.take(2)
    assert (start, len(found)) == (0, 2)


@pytest.mark.parametrize("drafter", ["chimera", "hidden-transfer", "firp"])
def test_a_drafter_that_drafts_nothing_for_some_steps_goes_on_as_before(tiny_pair, drafter):
    """The same guess after the same text, whatever was asked before."""
    ids = IDS[0].tolist()
    with torch.no_grad(), hidden_states.caught(tiny_pair.target, (1, 2, 3, 4)) as found:
        tiny_pair.target(IDS[:1])
    sampler = samplers.Greedy(samplers.Processors())
    guesses = []
    for asked in ((3, 3), (0, 3)):
        inputs = DrafterInputs(tiny_pair, draft_lengths.build("constant", 3), sampler)
        one = build(drafter, inputs)
        rows = torch.stack([found[layer][0] for layer in one.reads_layers], 1)
        for start, end, k in ((0, 4, 3), (4, 6, asked[0]), (6, 9, asked[1])):
            one.propose(ids[: start + 1], k)
            step = SimpleNamespace(committed=ids[start + 1 : end + 1], hidden=rows[start:end])
            one.observe(step)
        guesses.append(one.propose(ids[:10], 3).tokens)
    assert guesses[0] == guesses[1]
    assert len(guesses[0]) == 3


def test_entries_that_are_no_layers_are_refused(tiny_pair, tiny_pair_dir, tmp_path):
    from stairs_core.models.load import load_pair

    place = tmp_path / "pair"
    shutil.copytree(tiny_pair_dir, place)
    file = place / "heads" / "firp" / "config.json"
    config = json.loads(file.read_text())
    sampler = samplers.Greedy(samplers.Processors())
    pair = load_pair(str(place), "cpu", "float32", "off")
    for entries in (None, [], [3, 2, 3], [3, 3, 5], ["3", 3, 3]):
        file.write_text(json.dumps(config | {"pseudo_layers": entries}))
        with pytest.raises(InputError, match="is damaged: its config.json says pseudo_layers"):
            build("firp", DrafterInputs(pair, draft_lengths.build("constant", 3), sampler))


@torch.no_grad()
def test_maps_start_from_what_is_linear_in_the_hidden_states(target):
    """Where each hidden state is a rotation of the one before, the maps give later ones at once."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(32, 32)).Q
    rows = [torch.randn(16, 4, 32)]
    for _ in range(39):
        rows.append(rows[-1] @ turn.T)
    hidden = torch.stack(rows, 1)  # [texts, length, layers, width]
    hidden[:, :2] = 1e4  # unlike all others, as in real models
    hidden[8:, 30:] = 1e4  # padding
    batch = {"lengths": torch.tensor([40] * 8 + [30] * 8), "hidden": hidden}

    class Same:
        steps = 2

        def __call__(self, step):
            return batch

        complete = staticmethod(lambda batch: batch)

    options = Namespace(heads=3)
    module = placed(pseudo.new_hidden_transfer(target, [], usual_layers(target), options)[0])
    pseudo.begin(module, target, Same())
    for number, linear in enumerate(module.maps):
        read, true = hidden[:8, 9, 0], hidden[:8, 10 + number, 0]
        torch.testing.assert_close(read + linear(read), true, atol=0.05, rtol=0.05)
