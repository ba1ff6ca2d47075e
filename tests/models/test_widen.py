"""A widened pair writes the small pair's text, with the large shape's weights."""

from __future__ import annotations

import json
from pathlib import Path

import families
import pytest
import torch
from elsewhere import placed
from tiny_models import make_model

from stairs_core.cli.main import main
from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.models.widen import Size, widen
from stairs_core.settings.settings import Settings


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", [Size(48, 2, 64), Size(64, 5, 160), Size(32, 3, 64)])
def test_the_logits_are_the_small_models(tied: bool, size: Size):
    small = make_model(tie_word_embeddings=tied, rms_norm_eps=1e-2)
    wide = widen(small, size)
    assert wide.config.hidden_size == size.hidden
    assert len(wide.model.layers) == size.layers
    ids = torch.arange(60).view(2, 30)
    with torch.inference_mode():
        ours, theirs = placed(wide)(ids).logits, small(ids).logits
    assert torch.allclose(ours, theirs, atol=2e-4, rtol=1e-4)
    read = wide.model.layers[-1].mlp.gate_proj.weight
    assert (read != 0).all()


@pytest.mark.parametrize("size", [Size(40, 2, 64), Size(16, 2, 64), Size(64, 1, 64)])
def test_sizes_that_cannot_be_are_refused(size: Size):
    with pytest.raises(InputError, match="16 divides"):
        widen(make_model(), size)


def test_a_widened_pair_from_the_command_line(tiny_pair, tiny_pair_dir, tmp_path: Path, capsys):
    out = tmp_path / "wide"
    options = ["--pair", str(tiny_pair_dir), "--out", str(out), "--dtype", "float32"]
    assert main(["widen", *options, "--target", "64x5x96", "--draft", "48x4x64"]) == 0
    said = capsys.readouterr()
    assert str(out) in said.out
    assert said.err == ""
    wide = load_pair(str(out), "cpu", "float32")
    assert wide.target_name == "target, widened"
    assert wide.parameters > tiny_pair.parameters
    texts = [
        [
            t.id
            for s in Runner(pair, "Once upon a time", Settings(k=4)).decode()
            for t in s.committed
        ]
        for pair in (wide, tiny_pair)
    ]
    assert texts[0] == texts[1]
    assert json.loads((out / "target" / "config.json").read_text())["stairs_widened"] is True
    assert main(["widen", *options, "--target", "big"]) == 2
    assert "WIDTHxLAYERSxMLP" in capsys.readouterr().err
    assert main(["widen", *options, "--target", "64x3x96"]) == 2
    assert "there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        (("--target", "64x1x64"), "64x1x64 will not do"),
        (("--target", "64x5x96", "--draft", "40x4x64"), "40x4x64 will not do"),
    ],
)
def test_nothing_is_written_before_both_sizes_are_known_to_do(
    tiny_pair_dir, tmp_path: Path, capsys, sizes, why
):
    out = tmp_path / "wide"
    assert main(["widen", "--pair", str(tiny_pair_dir), "--out", str(out), *sizes]) == 2
    assert why in capsys.readouterr().err
    assert not out.exists()


def test_only_llamas_are_widened_and_a_draft_too_is_looked_at_first(
    tiny_pair_dir, tmp_path: Path, capsys
):
    families.save("GPT2", tmp_path / "pair")
    spec = f"{tiny_pair_dir / 'target'}:{tmp_path / 'pair' / 'target'}"
    capsys.readouterr()
    words = ["widen", "--pair", spec, "--out", str(tmp_path / "wide"), "--target", "64x5x96"]
    assert main([*words, "--draft", "48x4x64"]) == 2
    assert "this is a gpt2" in capsys.readouterr().err
    assert not (tmp_path / "wide").exists()
