"""Training of MUIsC from verdicts, on drawn pictures: what is learned, left out, resumed, exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from agpis.assemble import assemble, open_model
from agpis.batches import Batches, class_probabilities, class_weights
from agpis.bundle import Bundle, calibrated, open_bundle
from agpis.checkpoint import Checkpoint
from agpis.dataset import Pixels, sequence_data
from agpis.errors import TrainingError
from agpis.inputs import Text
from agpis.loop import Optim
from agpis.metrics import auc
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.muisc import SequenceModel, collate
from agpis.parts import Part
from agpis.sequence_run import Measured, Report, digest
from agpis.token_source import fingerprint
from agpis.train_sequence import (
    PRESETS,
    MuiscTraining,
    calibration,
    log_odds_shift,
    muisc_loss,
    text_of,
    train_muisc,
)
from tests.conftest import ROOT
from tests.drawn_reviews import RULEBOOK, pixels, read_rows, reviews, write_vit
from tests.test_pretrained import write_english

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIM = Optim(batch=16, lr=3e-3, steps=100, bf16=False, evaluate=25)
BUNDLE = MuiscTraining(
    optim=OPTIM, width=32, heads=2, decoder_blocks=2, vocabulary=320, max_title=12, max_feedback=12, pool=1, dropout=0.0
)
SPEAKING = replace(BUNDLE, lambda_nlg=1.0, optim=replace(OPTIM, evaluate=100))
"""The last weights are kept, which write more than the first that tell the bar."""
TINY = BackboneConfig("tiny", pretrained=False, size=64)
WHOLE = replace(BUNDLE, backbone=TINY, freeze=False, tower_rate=1.0, compare=False, pool=2, workers=1)
TWO_STEPS = replace(OPTIM, steps=2, evaluate=2)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
HELD = [number for number in range(40) if number % 5 == 4]
"""Products of the test split."""


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GPT-2 of five blocks, 24 wide, with 20 positions."""
    folder = tmp_path_factory.mktemp("gpt2")
    write_english(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained(verdicts: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """On the tokens of the tiny bundle."""
    out = tmp_path_factory.mktemp("trained") / "muisc"
    return out, fast(reviews(verdicts), SPEAKING, out, tiny_bundle)


def fast(samples: Sequence[Any], training: MuiscTraining, out: Path, bundle: Path | None = None) -> Report:
    return train_muisc(samples, RULEBOOK, training, out, base=bundle, progress=False)


def sequences(folder: Path, numbers: Sequence[int] = HELD) -> tuple[list[np.ndarray], list[str], np.ndarray]:
    """Pictures (2, 64, 64, 3) and title of each held-out sequence, and whether it was accepted."""
    shown = [(f"{n}-{view}.jpg", f"{n}-detail.jpg") for n in numbers for view in ("front", "bar")]
    titles = {row["sku"]: row["title"] for row in read_rows(folder / "verdicts.jsonl")}
    return [pixels(folder, pair) for pair in shown], [titles[f"P{n}"] for n in numbers for _ in range(2)], np.array(
        [True, False] * len(numbers)
    )  # fmt: skip


def from_checkpoint(folder: Path, verdicts: Path, bundle: Path | None) -> tuple[np.ndarray, np.ndarray, Checkpoint]:
    """Class probabilities of the held-out sequences, one at a time, from the checkpoint and the pictures alone."""
    module, checkpoint = open_model(folder, "muisc")
    assert isinstance(module, SequenceModel)
    text = _text(checkpoint)
    shown, titles, good = sequences(verdicts.parent)
    found = []
    opened = open_bundle(bundle) if bundle else None
    for pictures, title in zip(shown, titles, strict=True):
        mask = torch.ones(1, 2)
        if module.backbone is None:
            assert opened is not None
            tokens = torch.from_numpy(opened.image(pictures).tokens)[None]
        else:
            tokens = module.tokens(torch.from_numpy(pictures)[None], mask)
        wide = torch.zeros(1, RULEBOOK.k, *tokens.shape[2:])
        wide[:, :2] = tokens
        ids = torch.tensor([text.title(title, "home")])
        with torch.no_grad():
            mask = torch.tensor([[1.0, 1.0, 0.0]])
            logits, _ = module.muisc(wide, mask, ids, torch.tensor([ids.shape[1] - 1]))
        found.append(torch.softmax(logits[0], -1).numpy())
    return np.stack(found), good, checkpoint


def _text(checkpoint: Checkpoint) -> Text:
    limits = {key: checkpoint.text[key] for key in ("max_title", "max_feedback", "category")}
    names = {key: checkpoint.text[key] for key in ("separator", "end", "pad")}
    return text_of(checkpoint.tokenizer_json, names, **limits)


def assert_bundle_says_the_same(bundle: Bundle, checkpoint: Path, verdicts: Path, base: Path | None = None) -> None:
    expected, _, _ = from_checkpoint(checkpoint, verdicts, base)
    shown, titles, _ = sequences(verdicts.parent)
    for pictures, title, row in list(zip(shown, titles, expected, strict=True))[:6]:
        found = bundle.sequence(bundle.image(pictures).tokens[None], title, "home")
        np.testing.assert_allclose(found, calibrated(row[None], bundle.manifest.qualified), atol=2e-4)


# What is learned


def test_a_bar_is_learned_on_the_tokens_of_a_bundle(
    trained: tuple[Path, Report], verdicts: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out, report = trained
    probabilities, good, checkpoint = from_checkpoint(out, verdicts, tiny_bundle)
    assert auc(probabilities[:, 0], good) > 0.9
    assert (probabilities[~good].argmax(1) == RULEBOOK.classes.index("banner")).mean() > 0.8
    assert report.samples == {"train": 48, "validation": 16}
    assert (report.bad_images, report.left_out, report.notes) == ((), 0, ())
    assert report.figures["auc"] > 0.9
    assert report.figures["samples"] == 16
    assert str(report).startswith("48 train, 16 validation samples")
    said = checkpoint.metrics["qualified"]
    assert said["data"] == "16 validation samples of the reviews"
    assert checkpoint.metrics["validation"] == report.figures
    assert checkpoint.training["config"] == json.loads(json.dumps(asdict(SPEAKING)))
    assert checkpoint.tokens_of == open_bundle(tiny_bundle).manifest.graphs["image"].sha256
    exported = assemble(tmp_path / "b", bundle_id="b", muisc=out, base=tiny_bundle, half=False)
    assert_bundle_says_the_same(exported, out, verdicts, tiny_bundle)
    tokens = exported.image(pixels(verdicts.parent, ["4-bar.jpg", "4-detail.jpg"])).tokens
    assert exported.feedback(tokens, "red lamp") == "There is a promotional banner on the image."


def test_a_bar_is_learned_on_a_frozen_backbone(verdicts: Path, vit: str, tmp_path: Path) -> None:
    training = replace(BUNDLE, backbone=BackboneConfig(vit), pool=2, hide=0.2)
    report = fast(reviews(verdicts), training, tmp_path / "frozen")
    probabilities, good, _ = from_checkpoint(tmp_path / "frozen", verdicts, None)
    assert auc(probabilities[:, 0], good) > 0.9
    assert report.figures["auc"] > 0.9
    module, _ = open_model(tmp_path / "frozen", "muisc")
    assert isinstance(module, SequenceModel)
    assert module.backbone is not None
    assert fingerprint(module.backbone) == fingerprint(new_backbone(BackboneConfig(vit)))


def test_a_bar_is_learned_with_the_backbone(verdicts: Path, tmp_path: Path) -> None:
    report = fast(reviews(verdicts), WHOLE, tmp_path / "whole")
    probabilities, good, _ = from_checkpoint(tmp_path / "whole", verdicts, None)
    assert auc(probabilities[:, 0], good) > 0.9
    assert report.figures["auc"] > 0.9


def test_the_papers_shape(verdicts: Path, vit: str, gpt2: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """The preset itself, on a small ViT and a small GPT-2 from disk."""
    training = replace(
        PRESETS["paper"], backbone=BackboneConfig(vit), decoder=gpt2, max_title=8, max_feedback=11, workers=1,
        optim=replace(PRESETS["paper"].optim, batch=8, epochs=0, steps=3),
    )  # fmt: skip
    fast(reviews(verdicts), training, tmp_path / "paper")
    module, checkpoint = open_model(tmp_path / "paper", "muisc")
    assert isinstance(module, SequenceModel)
    config = module.muisc.config
    assert (config.width, config.decoder_blocks, config.decoder_heads, config.cross_attention) == (24, 3, 3, (2,))
    assert (config.tokens, config.class_token, config.pool, config.compare) == (17, True, None, False)
    assert checkpoint.text["end"] == "<|endoftext|>"
    start = load_file(Path(gpt2) / "model.safetensors")["wpe.weight"]
    moved = float((module.muisc.text_positions.weight.detach() - start).abs().max())
    assert 0 < moved < 0.01  # three steps from there
    assert module.backbone is not None
    assert fingerprint(module.backbone) != fingerprint(new_backbone(BackboneConfig(vit)))
    exported = assemble(tmp_path / "b", bundle_id="b", muisc=tmp_path / "paper", base=tiny_bundle, half=False)
    assert exported.manifest.roles["tokens"] == "tokens"
    assert_bundle_says_the_same(exported, tmp_path / "paper", verdicts)


def test_a_decoder_with_too_few_positions(verdicts: Path, gpt2: str, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"may take 25 tokens, .* has 20 positions; lower max_title") as caught:
        fast(reviews(verdicts), replace(BUNDLE, decoder=gpt2), tmp_path, tiny_bundle)
    assert caught.value.code == "bad_config"


# A start


def test_training_goes_on_from_a_checkpoint(
    trained: tuple[Path, Report], verdicts: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    still = replace(PRESETS["starter"], optim=replace(TWO_STEPS, lr=1e-12), start=str(trained[0]), lambda_nlg=0.3)
    fast(reviews(verdicts), still, tmp_path / "still", tiny_bundle)  # of other width, lengths of texts and hiding
    weights = (load_file(folder / "weights.safetensors") for folder in (trained[0], tmp_path / "still"))
    scaled = ("muisc.class_head.", "muisc.shortcut.")  # by `two_paths.weigh`
    before, after = ({k: v for k, v in found.items() if not k.startswith(scaled)} for found in weights)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    module, checkpoint = open_model(tmp_path / "still", "muisc")
    assert isinstance(module, SequenceModel)
    assert (module.muisc.config.width, module.muisc.config.hide, module.muisc.config.lambda_nlg) == (32, 0.3, 0.3)
    old = open_model(trained[0], "muisc")[1]
    assert (checkpoint.text, checkpoint.tokenizer_json) == (old.text, old.tokenizer_json)
    _, good, _ = from_checkpoint(trained[0], verdicts, tiny_bundle)
    assert auc(from_checkpoint(tmp_path / "still", verdicts, tiny_bundle)[0][:, 0], good) > 0.9
    assert_bundle_says_the_same(
        assemble(tmp_path / "b", bundle_id="b", muisc=tmp_path / "still", base=tiny_bundle, half=False),
        tmp_path / "still",
        verdicts,
        tiny_bundle,
    )


def test_the_start_must_read_the_same_tokens_by_the_same_rules(
    trained: tuple[Path, Report], verdicts: Path, tiny_bundle: Path, vit: str, tmp_path: Path
) -> None:
    begun = replace(BUNDLE, optim=TWO_STEPS, start=str(trained[0]))
    with pytest.raises(TrainingError, match=r"whose source of image tokens is .*; this training's is") as caught:
        fast(reviews(verdicts), replace(begun, backbone=BackboneConfig(vit)), tmp_path / "a")
    assert caught.value.code == "bad_checkpoint"
    shorter = RULEBOOK.model_copy(update={"k": 2})
    with pytest.raises(TrainingError, match="whose K is 3; this training's is 2"):
        train_muisc(reviews(verdicts), shorter, begun, tmp_path / "b", base=tiny_bundle, progress=False)
    recipe = replace(begun, start=str(tiny_bundle.parent / "checkpoints" / "muisc"))  # as the recipe leaves it
    fast(reviews(verdicts), recipe, tmp_path / "recipe", tiny_bundle)
    assert open_model(tmp_path / "recipe", "muisc")[1].training["sources"] == ["drawn"]
    with pytest.raises(TrainingError, match="no checkpoint at"):
        fast(reviews(verdicts), replace(begun, start=str(tmp_path / "none")), tmp_path / "c", tiny_bundle)
    with pytest.raises(TrainingError, match="both bring weights"):
        replace(begun, decoder="gpt2")


# Options


@pytest.mark.parametrize(
    ("of_bundle", "options"),
    [
        (True, {"hide": 0.5, "category": True, "class_weights": 0.5, "predict_title": True}),
        (False, {"compare": False, "tied": False, "pool": None}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "bundle" if value else "backbone",
)
def test_options_train_and_export(
    of_bundle: bool, options: dict[str, Any], verdicts: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    training = replace(BUNDLE, optim=TWO_STEPS, backbone=None if of_bundle else TINY, **options)
    fast(reviews(verdicts), training, tmp_path / "m", tiny_bundle)
    module, _ = open_model(tmp_path / "m", "muisc")
    assert isinstance(module, SequenceModel)
    config = module.muisc.config
    for name in {"hide", "predict_title", "tied", "compare", "pool"} & set(options):
        assert getattr(config, name) == options[name], name
    exported = assemble(tmp_path / "b", bundle_id="b", muisc=tmp_path / "m", base=tiny_bundle, half=False)
    assert exported.text.category is options.get("category", False)
    assert_bundle_says_the_same(exported, tmp_path / "m", verdicts, tiny_bundle if of_bundle else None)
    assert isinstance(exported.feedback(exported.image(pixels(verdicts.parent, ["4-bar.jpg"])).tokens, ""), str)


def test_a_pool_that_does_not_fit_is_left_out_and_said(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    report = fast(reviews(verdicts), replace(BUNDLE, optim=TWO_STEPS, pool=4), tmp_path, tiny_bundle)
    assert report.notes == (
        "pool 4 is left out: it needs a square grid of at least that side, the images have 5 tokens.",
    )
    assert report.notes[0] in str(report)
    module, checkpoint = open_model(tmp_path, "muisc")
    assert isinstance(module, SequenceModel)
    assert module.muisc.config.pool is None
    assert checkpoint.training["notes"] == list(report.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": False}, "the tokens come from a bundle; name a backbone"),
        ({"word_dropout": 0.5, "predict_title": True}, "set word_dropout to 0 with it"),
        ({"word_dropout": 1.0}, "word_dropout is 1.0; allowed is 0 to below 1"),
        ({"hide": -0.1}, "hide is -0.1; allowed is 0 to below 1"),
        ({"class_weights": 1.5}, "class_weights is 1.5; allowed is 0 to 1"),
        ({"prior": 0.0}, "prior is 0.0; it is a share, between 0 and 1, or null"),
        ({"dropout": 1.0}, "dropout is 1.0; allowed is 0 to below 1"),
        ({"workers": -1}, "workers -1, seed 0: all must be at least 0"),
        ({"pool": 0}, "pool 0: all must be at least 1"),
        ({"heads": 0}, "heads 0, .*: all must be at least 1"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        replace(BUNDLE, **changes)
    assert caught.value.code == "bad_config"


# Samples as they come


def test_texts_lengths_and_classes_as_they_come(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """No title, no category, one picture, four pictures, and a class with one sample: all are trained on."""
    extra: list[dict[str, Any]] = [
        {"sku": "E1", "title": "", "sequence": ["0-front.jpg"], "accepted": True},
        {"sku": "E2", "title": "x" * 400, "sequence": ["1-front.jpg", "1-bar.jpg", "1-detail.jpg", "2-front.jpg"],
         "accepted": False, "rules": ["banner"], "feedback": "z " * 200},
        {"sku": "E3", "title": "", "category": "", "sequence": ["3-front.jpg", "3-front.jpg"], "accepted": False,
         "rules": ["duplicate"], "feedback": ""},
        {"sku": "E4", "title": "图片", "sequence": ["3-front.jpg"], "accepted": False, "feedback": "不好"},
    ]  # fmt: skip
    samples = reviews(verdicts, [{**row, "split": "train"} for row in extra])
    assert {s.label for s in samples} == {"qualified", "banner", "duplicate", "other"}
    training = replace(BUNDLE, optim=replace(TWO_STEPS, steps=8), class_weights=0.5, category=True, word_dropout=0.5)
    report = fast(samples, training, tmp_path, tiny_bundle)
    assert report.samples["train"] == 52
    weights = load_file(tmp_path / "weights.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


@pytest.mark.parametrize("training", [BUNDLE, WHOLE], ids=["cached", "decoded"])
def test_bad_pictures_are_named_and_left_out(
    training: MuiscTraining, verdicts: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    (verdicts.parent / "torn.jpg").write_bytes((verdicts.parent / "0-front.jpg").read_bytes()[:100])
    base: dict[str, Any] = {"title": "lamp", "accepted": True}
    extra = [
        {**base, "sku": "B1", "sequence": ["torn.jpg", "0-detail.jpg"], "split": "train"},
        {**base, "sku": "B2", "sequence": ["0-front.jpg", "absent.jpg"], "split": "train"},
        {**base, "sku": "B3", "sequence": ["torn.jpg"], "split": "validation"},
    ]
    optim = replace(TWO_STEPS, steps=6)  # of 16 samples: nearly two passes
    report = fast(reviews(verdicts, extra), replace(training, optim=optim), tmp_path, tiny_bundle)
    assert [Path(bad.uri).name for bad in report.bad_images] == ["torn.jpg", "absent.jpg"]
    assert report.left_out == 3
    assert report.figures["samples"] == 16
    assert "left out 3 samples, for 2 pictures that cannot be read:" in str(report)
    assert "absent.jpg" in str(report)


def test_a_batch_without_one_readable_picture(verdicts: Path, tmp_path: Path) -> None:
    row = {"sku": "B", "title": "lamp", "sequence": ["absent.jpg"], "accepted": True, "split": "train"}
    data = sequence_data(reviews(verdicts, [row] * 2), RULEBOOK, RULEBOOK.k)
    batches = Batches(data, [[5, 1]] * len(data), [[2]] * len(data), 0, pixels=Pixels(data.images, 64))
    last = np.array([len(data) - 2, len(data) - 1])
    batch = batches(Part(last, np.arange(len(data)), 0))
    assert batch["labels"].shape == (0,)
    assert batch["ids"].shape == batch["targets"].shape == (0, 0)
    assert batch["separator"].dtype == torch.int64
    assert len(batch["bad"]) == 1
    fast(reviews(verdicts), replace(WHOLE, optim=replace(TWO_STEPS, steps=1)), tmp_path)
    module, _ = open_model(tmp_path, "muisc")
    assert isinstance(module, SequenceModel)
    assert {key: float(value.detach()) for key, value in muisc_loss(module)(batch).items()} == {
        "total": 0.0, "classes": 0.0, "feedback": 0.0,
    }  # fmt: skip
    with pytest.raises(TrainingError, match="no sample to be scored has readable pictures") as caught:
        class_probabilities(lambda b: b["mask"], nn.Linear(1, 1), Batches(
            data.take(last), [[5, 1]] * 2, [[2]] * 2, 0, pixels=Pixels(data.images, 64)
        ))  # fmt: skip
    assert caught.value.code == "no_readable_image"


def test_too_few_samples(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    samples = reviews(verdicts)
    train = [s for s in samples if s.split == "train"]
    accepted = [s for s in samples if s.verdict.accepted]
    gone = [replace(s, verdict=replace(s.verdict, base=str(tmp_path / "gone"))) for s in train[19:]]
    for some, message in (
        (train[:19], "found 19 samples to train on, of 2 classes; at least 20 of 2 classes are needed"),
        (accepted, "found 24 samples to train on, of 1 classes"),
        (train[:19] + gone, r"found 19 samples .* without those of \d+ pictures that cannot be read \(the first: "),
    ):
        with pytest.raises(TrainingError, match=message) as caught:
            fast(some, BUNDLE, tmp_path / "out", tiny_bundle)
        assert caught.value.code == "too_few_samples"
    assert not (tmp_path / "out" / "config.json").exists()


def test_without_a_validation_split_the_prior_moves_the_bias(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    samples = [s for s in reviews(verdicts) if s.split == "train"][:-8]
    training = replace(BUNDLE, optim=TWO_STEPS)
    report = fast(samples, training, tmp_path / "plain", tiny_bundle)
    assert report.figures == {}
    assert report.notes == ("There is no validation split: the last weights are kept, and nothing is calibrated.",)
    fast(samples, replace(training, prior=0.8), tmp_path / "moved", tiny_bundle)
    plain, moved = (load_file(tmp_path / name / "weights.safetensors") for name in ("plain", "moved"))
    bias = moved["muisc.class_head.bias"] - plain["muisc.class_head.bias"]
    assert bias.tolist() == pytest.approx([np.log(4.0)] + [0.0] * (len(RULEBOOK.classes) - 1), abs=1e-5)
    assert open_model(tmp_path / "moved")[1].metrics == {}


def test_the_prior_stays_behind_the_calibration() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 4000)
    good = rng.random(4000) < 1 / (1 + np.exp(-logits))
    p = 1 / (1 + np.exp(-logits))
    measured = Measured(np.stack([p, 1 - p], 1).astype(np.float32), np.where(good, 0, 1))
    plain, moved = calibration(measured, None, ()), calibration(measured, 0.9, ("a.jsonl",))
    assert plain["temperature"] == moved["temperature"]
    assert moved["shift"] - plain["shift"] == pytest.approx(log_odds_shift(float(good.mean()), 0.9), abs=1e-3)
    assert moved["data"] == "4000 validation samples of a.jsonl, moved to 0.9 qualified"
    assert log_odds_shift(0.5, 0.9) == pytest.approx(np.log(9.0))
    assert log_odds_shift(1.0, 0.9) == log_odds_shift(0.3, None) == 0.0


def test_verdicts_of_one_kind_calibrate_nothing(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    samples = [s for s in reviews(verdicts) if s.split == "train" or s.verdict.accepted]
    report = fast(samples, replace(BUNDLE, optim=TWO_STEPS), tmp_path, tiny_bundle)
    assert report.figures == {"samples": 8.0}
    assert report.notes == ("The validation split holds verdicts of one kind: nothing is chosen or calibrated by it.",)
    assert "NaN" not in (tmp_path / "config.json").read_text()


# Batches


def test_class_weights() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    assert class_weights(labels, 4, 0.0) is None
    weights = class_weights(labels, 4, 0.5)
    assert weights is not None
    assert weights[labels].mean() == pytest.approx(1.0)
    assert weights[1] / weights[0] == pytest.approx(np.sqrt(10.0))
    assert weights[3] == 0.0
    balanced = class_weights(labels, 4, 1.0)
    assert balanced is not None
    assert np.bincount(labels, balanced[labels]) == pytest.approx([100 / 3] * 3)


def test_word_dropout_is_a_function_of_step_and_sample(verdicts: Path) -> None:
    data = sequence_data(reviews(verdicts), RULEBOOK, RULEBOOK.k)
    titles = [[*range(10, 30), 1]] * len(data)
    tokens = np.zeros((len(data.images), 2, 3), np.float16)
    make = Batches(data, titles, [[7, 2]] * len(data), 0, tokens=tokens, word_dropout=0.5)

    def words(rows: list[int], step: int) -> list[list[int]]:
        batch = make(Part(np.array(rows), np.arange(len(data)), step))
        at = batch["separator"].tolist()
        return [ids[: end + 1] for ids, end in zip(batch["ids"].tolist(), at, strict=True)]

    first = words([3, 4, 5], 0)
    assert words([5, 3], 0) == [first[2], first[0]]
    assert words([3, 4, 5], 1) != first
    assert first[0] != first[1]
    for row in first:
        assert row[-1] == 1
        assert row[:-1] == sorted(row[:-1])
        assert 2 <= len(row) < 21
    batch = make(Part(np.array([3]), np.array([3, 4]), 0))
    assert batch["whole"].tolist() == [2.0, 4.0]
    ids, end = batch["ids"][0].tolist(), int(batch["separator"][0])
    assert ids[end + 1 : end + 3] == [7, 2]
    assert batch["targets"][0].nonzero()[:, 0].tolist() == [end + 1, end + 2]


def test_collate_of_titles_that_are_predicted_too() -> None:
    ids, separator, targets = collate([[4, 5, 1], [1]], [[6, 2], [2]], 0, predict_title=True)
    assert ids.tolist() == [[4, 5, 1, 6, 2], [1, 2, 0, 0, 0]]
    assert separator.tolist() == [2, 0]
    assert targets.tolist() == [[False, True, True, True, True], [False, True, False, False, False]]


def test_the_digest_knows_images_order_and_texts(verdicts: Path) -> None:
    data = sequence_data(reviews(verdicts), RULEBOOK, RULEBOOK.k)
    assert digest(data) == digest(sequence_data(reviews(verdicts), RULEBOOK, RULEBOOK.k))
    others = [
        data.take(np.arange(len(data))[::-1]),
        replace(data, titles=("other", *data.titles[1:])),
        replace(data, images=data.images[::-1]),
        replace(data, feedbacks=("other", *data.feedbacks[1:])),
    ]
    assert len({digest(data), *map(digest, others)}) == 5


# Kills and processes


def test_killed_and_resumed_gives_the_same_weights(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    training = replace(BUNDLE, dropout=0.2, word_dropout=0.3, hide=0.3, optim=replace(OPTIM, steps=60, evaluate=5))
    fast(reviews(verdicts), training, tmp_path / "whole", tiny_bundle)
    out = tmp_path / "killed"

    def kill() -> None:
        while not (out / "state" / "state.json").exists():
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fast(reviews(verdicts), training, out, tiny_bundle)
    thread.join()
    assert not (out / "config.json").exists()
    assert json.loads((out / "state" / "state.json").read_text())["state"]["step"] < 60
    fast(reviews(verdicts), replace(training, workers=0), out, tiny_bundle)  # which change no number
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    with pytest.raises(TrainingError, match="lambda_nlg") as caught:
        fast(reviews(verdicts), replace(training, lambda_nlg=0.3), out, tiny_bundle)
    assert caught.value.code == "other_run"


def test_two_processes_give_what_one_gives(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """Through torchrun and the command line; one of them writes and prints."""
    training = replace(BUNDLE, optim=replace(OPTIM, steps=4, evaluate=2), word_dropout=0.3, class_weights=0.5)
    from agpis.configs import lines

    (tmp_path / "config.yaml").write_text("\n".join(lines(training)))
    command = ["-m", "agpis", "train", "muisc", str(verdicts), "-o", str(tmp_path / "two"), "--base", str(tiny_bundle)]
    done = subprocess.run(
        [*TORCHRUN, *command, "--config", str(tmp_path / "config.yaml")],
        cwd=ROOT, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint:") == done.stdout.count("48 train, 16 validation samples") == 1
    fast(reviews(verdicts), training, tmp_path / "one", tiny_bundle)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4)
    rows = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two")]
    assert rows[0]["metrics"]["validation"] == pytest.approx(rows[1]["metrics"]["validation"], abs=1e-4)
    assert rows[0]["training"]["losses"] == pytest.approx(rows[1]["training"]["losses"], abs=1e-4)
