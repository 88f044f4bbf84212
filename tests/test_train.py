"""Training: the loop, the losses, the geometry of the copies, the recipe made small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import agpis.train_image as train_image_module
from agpis.checkpoint import load_weights
from agpis.errors import TrainingError
from agpis.graphs import Exported
from agpis.images import Size, letterbox
from agpis.inputs import Text
from agpis.lessons import SequenceLessons, correspondence, image_lessons, triple
from agpis.loop import Optim
from agpis.models.muisc import Muisc, MuiscConfig
from agpis.models.single import VIEWS, ImageConfig, any_of
from agpis.recipe import (
    MuiscTraining,
    StarterTraining,
    catalogues,
    save_checkpoint,
    scaled,
    text_of,
    tokenizer_for,
    train_muisc,
)
from agpis.rulebook import load_rulebook
from agpis.simulate import Stock, Style, copied
from agpis.train_image import (
    FrozenTower,
    ImageTraining,
    fit_projection,
    new_image_model,
    patch_loss,
    place_loss,
    product_loss,
    train_image,
)
from tests.tiny import TINY, draw_products


def test_checkpoints_are_strict(tmp_path: Path) -> None:
    config = ImageConfig(rules=2, size=64, tower="tiny", width=96, descriptor=16)
    model = new_image_model(config)
    save_checkpoint(tmp_path / "one", model, config)
    other = new_image_model(config)
    load_weights(tmp_path / "one", other)
    torch.testing.assert_close(other.state_dict(), model.state_dict())
    assert json.loads((tmp_path / "one" / "config.json").read_text())["tower"] == "tiny"
    assert {p.suffix for p in (tmp_path / "one").iterdir()} == {".json", ".safetensors"}
    with pytest.raises(
        TrainingError, match=r"does not fit the model: missing \[\], foreign \[\], other shape \['rule_scale"
    ):
        load_weights(tmp_path / "one", new_image_model(replace(config, rules=3)))
    with pytest.raises(TrainingError, match=r"no checkpoint at .*two: weights.safetensors is missing"):
        load_weights(tmp_path / "two", other)


def test_unknown_tower() -> None:
    with pytest.raises(TrainingError, match=r"tower is 'vgg'; allowed are \['efficientnet_lite0', 'tiny'\]"):
        new_image_model(ImageConfig(rules=2, tower="vgg"))


# losses of the image model


def test_patch_loss_is_small_only_for_the_right_places() -> None:
    torch.manual_seed(0)
    source = F.normalize(torch.randn(2, 16, 32), dim=-1)
    order = torch.randperm(16)
    places = order.expand(2, -1).clone()
    patches = torch.stack([source, source[:, order], F.normalize(torch.randn(2, 16, 32), dim=-1)], dim=1)
    right = patch_loss(patches, places, 0.05)
    wrong = patch_loss(patches, places.roll(5, 1), 0.05)
    assert right < 0.1 < 3.0 < wrong
    assert float(patch_loss(patches, torch.full((2, 16), -1), 0.05)) == 0.0


def test_patch_loss_spares_the_neighbours() -> None:
    """A neighbour of the right place looks alike and is no mistake; the same patch two places off is one."""
    torch.manual_seed(0)
    base = F.normalize(torch.randn(1, 16, 32), dim=-1)
    places = torch.full((1, 16), -1)
    places[0, 0] = 5  # row 1, column 1 of a 4 x 4 grid
    losses_ = []
    for twin in (6, 7):  # beside it, two columns off
        source = base.clone()
        source[0, twin] = source[0, 5]
        copy = base.clone()
        copy[0, 0] = source[0, 5]
        other = F.normalize(torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
        losses_.append(float(patch_loss(torch.stack([source, copy, other], 1), places, 0.05)))
    assert losses_[0] < 0.05 < 0.6 < losses_[1]


def test_product_loss_leaves_sisters_alone() -> None:
    e = torch.eye(4)
    near, far = e[0], e[1]
    products = torch.tensor([[0, 0, 1]])
    together = torch.stack([near, near, near])[None]
    apart = torch.stack([near, near, far])[None]
    # the third is another product: pushed away if a stranger, ignored if a sister (same style)
    assert product_loss(apart, products, torch.tensor([[0, 0, 9]])) < product_loss(
        together, products, torch.tensor([[0, 0, 9]])
    )
    torch.testing.assert_close(
        product_loss(apart, products, torch.tensor([[0, 0, 0]])),
        product_loss(together, products, torch.tensor([[0, 0, 0]])),
    )


# geometry


@pytest.mark.parametrize("kind", ["crop", "mirrored", "padded", "pasted"])
def test_correspondence_points_at_the_same_paint(kind: str) -> None:
    """The source is painted with its own coordinates, so a patch's colour tells where it comes from."""
    size = Size(width=224, height=224)
    height, width = 200, 150
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(20, 235, width)[None]
    ramp[..., 1] = np.linspace(20, 235, height)[:, None]
    ramp[..., 2] = 150 * (np.add.outer(np.arange(height) // 4, np.arange(width) // 4) % 2)  # structure
    wrong = total = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        copy = copied(ramp, rng, Style.train().having((ramp,)), kind)
        if "colour_shifted" in copy.steps:
            continue
        a, b = letterbox(ramp, size), letterbox(copy.pixels, size)
        places = correspondence(ramp, copy, a, b, size)
        for cell in np.flatnonzero(places >= 0):
            found = []
            for picture, index in ((b, cell), (a, int(places[cell]))):
                y, x = divmod(int(index), 14)
                found.append(picture[16 * y + 6 : 16 * y + 10, 16 * x + 6 : 16 * x + 10, :2].reshape(-1, 2).mean(0))
            if found[1].min() > 250:  # the centre of the source's patch lies just outside the picture
                continue
            total += 1
            wrong += bool(np.abs(found[0] - found[1]).max() > 18)  # half a patch, 8 px, is 10 levels
    assert total > 50
    assert wrong <= 0.05 * total


def test_ground_has_no_correspondence() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    copy = copied(white, np.random.default_rng(0), Style.train(), "mirrored")
    size = Size(width=64, height=64)
    assert (correspondence(white, copy, letterbox(white, size), letterbox(copy.pixels, size), size) == -1).all()


# the image model


def test_image_lessons_hold_what_the_simulator_says() -> None:
    rulebook = load_rulebook("default")
    lessons = image_lessons(
        Stock(draw_products()),
        rulebook,
        np.random.default_rng(0),
        Style.train(),
        count=60,
        triples=4,
        size=64,
        views=VIEWS,
    )
    assert lessons.pixels.shape == (60, 64, 64, 3)
    np.testing.assert_array_equal(lessons.noncompliant, lessons.rules.max(1))
    assert 0.2 < lessons.noncompliant.mean() < 0.8
    assert ((lessons.rules == 0) | (lessons.known == 1)).all()  # a planted rule is known
    assert lessons.primary[lessons.rules.any(1) & (lessons.primary_known == 1)].max() == 0.0
    assert lessons.words.sum(1).min() >= 1
    assert lessons.triples.shape == (4, 3, 64, 64, 3)
    assert lessons.places.max() < 16
    assert (lessons.products[:, 0] == lessons.products[:, 1]).all()


def test_triple_is_a_picture_its_copy_and_another() -> None:
    stock = Stock(draw_products())
    drawn = triple(stock, np.random.default_rng(0), Style.train(), Size(width=64, height=64), "mirrored")
    assert drawn.copy.kind == "mirrored"
    assert drawn.products[0] is drawn.products[1]
    assert drawn.pixels.shape == (3, 64, 64, 3)


class InTorch:
    """A session without the export, which takes five seconds."""

    def __init__(self, module: Exported) -> None:
        self.module = module

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            found = dict(zip(self.module.outputs, self.module(torch.from_numpy(feeds["pixels"])), strict=True))
        return [found[name].numpy() for name in names]


@pytest.mark.parametrize(
    ("part", "parts"),
    [("late", {"to32"}), ("middle", {"to16", "to32"}), ("whole", {"stem", "to8", "to16", "to32"})],
)
def test_image_training_trains_what_it_says(part: str, parts: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if part == "middle":
        monkeypatch.setattr(train_image_module, "_session", lambda module, size, *, half: InTorch(module))
    rulebook = load_rulebook("default")
    lessons = image_lessons(
        Stock(draw_products()),
        rulebook,
        np.random.default_rng(0),
        Style.train(),
        count=16,
        triples=3,
        size=64,
        views=VIEWS,
    )
    torch.manual_seed(0)
    model = new_image_model(
        ImageConfig(rules=len(rulebook.single_rules), size=64, tower="tiny", width=128, descriptor=16)
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    training = ImageTraining(optim=Optim(steps=30, batch=16, lr=3e-3, bf16=False), copies=2, part=part)
    rows = train_image(model, lessons, training, seed=0, progress=False)
    assert rows[-1]["total"] < 0.8 * rows[0]["total"]
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[1] for key in moved if key.startswith("tower.")} == parts


def test_place_loss_wants_marks_where_they_are_and_nowhere_else() -> None:
    marks = torch.full((2, 1, 4), torch.nan)
    marks[0, 0] = torch.tensor([0.0, 0.0, 0.5, 0.5])
    kept = torch.tensor([[False], [True]])
    right = torch.full((2, 1, 4, 4), -8.0)
    right[0, 0, :2, :2] = 8.0
    half = right.clone()
    half[0, 0, 0, 0] = -8.0  # between the letters
    wrong = right.flip(2)
    false = right.clone()
    false[1] = 8.0
    losses = [float(place_loss(places.flatten(2), marks, kept)) for places in (right, half, wrong, false)]
    assert max(losses[:2]) < 0.01
    assert min(losses[2:]) > 1.0
    small = torch.full((2, 1, 4), torch.nan)
    small[0, 0] = torch.tensor([0.30, 0.30, 0.31, 0.31])  # smaller than a place, and in none of their centres
    assert torch.isfinite(place_loss(right.flatten(2), small, kept))


def test_any_of_is_the_chance_that_not_all_are_kept() -> None:
    logits = torch.tensor([[-1.0, 0.5, -3.0], [-25.0, -25.0, -25.0], [25.0, 25.0, 0.0]])
    expected = 1.0 - (1.0 - torch.sigmoid(logits.double())).prod(1)
    torch.testing.assert_close(torch.sigmoid(any_of(logits)).double(), expected, atol=2e-6, rtol=1e-4)


def test_frozen_maps_are_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_image_model(ImageConfig(rules=3, size=64, tower="tiny", width=96, descriptor=16)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = model.early(torch.from_numpy(pixels))
    wanted = expected[0][[3, 1, 0, 2]], expected[1][[3, 1]], expected[2][[3, 1]]

    def maps(part: str, steps: int) -> None:
        training = ImageTraining(part=part, optim=Optim(steps=steps, batch=5, lr=1e-3))
        frozen = FrozenTower.of(model, pixels, pixels[:3], training)
        assert frozen is not None
        with torch.inference_mode():
            found = frozen.halves(model, np.array([3, 1]), np.array([0, 2]))
        for one, right in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, right, atol=2e-3, rtol=2e-3)  # maps are kept in half precision

    maps("middle", 1)  # each picture seen once: made anew

    monkeypatch.setattr(train_image_module, "_session", lambda module, size, *, half: InTorch(module))
    for part, steps in (("middle", 2), ("late", 1), ("late", 2)):
        maps(part, steps)


def test_learned_columns_are_principal_components() -> None:
    torch.manual_seed(0)
    model = new_image_model(ImageConfig(rules=3, size=64, tower="tiny", width=64, descriptor=16)).eval()
    assert model.learned.out_channels == 45  # more than the tiny tower's 16 channels: the rest stays 0
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    fit_projection(model, pixels)
    with torch.inference_mode():
        columns = model(torch.from_numpy(pixels))["tokens"][:, :-1, :45].flatten(0, 1)
    varied = columns.std(0) > 1e-3
    assert 4 <= int(varied.sum()) <= 16
    torch.testing.assert_close(columns.mean(0), torch.zeros(45), atol=0.05, rtol=0)
    correlation = torch.corrcoef(columns[:, varied][:, :4].T)
    torch.testing.assert_close(correlation, torch.eye(4), atol=0.1, rtol=0)


def test_tokens_too_narrow_for_what_they_carry_are_refused() -> None:
    with pytest.raises(TrainingError, match="width is 48; tokens of 3 rules need at least 51") as caught:
        ImageConfig(rules=3, size=64, tower="tiny", width=48, descriptor=16)
    assert caught.value.code == "bad_config"


# the sequence model


def test_muisc_learns_and_its_prior_is_shifted(tmp_path: Path) -> None:
    """Class 1 when the first token's first column is high: learned, and the bias moved to the share of use."""
    rulebook = load_rulebook("default")
    count, classes = 200, 3
    rng = np.random.default_rng(0)
    labels = (rng.random(count) < 0.5).astype(np.int64)
    tokens = rng.normal(size=(count, 3, 2, 8)).astype(np.float16)
    tokens[:, 0, 0, 0] = 3.0 * labels
    lessons = SequenceLessons(
        tokens,
        np.ones((count, 3), np.float32),
        labels,
        ("lamp",) * count,
        ("",) * count,
        tuple("yes" if label == 0 else "too bright" for label in labels),
    )
    text = text_of(
        tokenizer_for(lessons, ["lamp"], rulebook, 300), replace(StarterTraining(), max_title=6, max_feedback=6)
    )
    assert isinstance(text, Text)
    torch.manual_seed(0)
    model = Muisc(
        MuiscConfig(
            classes=classes, vocabulary=text.vocabulary, tokens=2, token_width=8, width=16, encoder_heads=2,
            encoder_mlp=16, decoder_blocks=2, decoder_heads=2, decoder_mlp=32, cross_attention=(1,), positions=16,
            dropout=0.0,
        )
    )  # fmt: skip
    optim = Optim(steps=150, batch=32, lr=5e-3, bf16=False)
    bias = {}
    for prior in (None, 0.71):
        torch.manual_seed(0)
        trained = Muisc(model.config)
        rows = train_muisc(trained, lessons, text, MuiscTraining(optim, prior=prior), seed=0, progress=False)
        bias[prior] = trained.class_head.bias.detach().clone()
    assert rows[-1]["classes"] < 0.1 < rows[0]["classes"]
    assert rows[-1]["feedback"] < rows[0]["feedback"]
    share = float((labels == 0).mean())
    shift = bias[0.71] - bias[None]
    assert float(shift[0]) == pytest.approx(np.log(0.71 / share), abs=1e-4)
    assert float(shift[1]) == pytest.approx(np.log(0.29 / (1 - share)), abs=1e-4)
    ids = torch.tensor([text.title("lamp")])
    with torch.inference_mode():
        held = torch.from_numpy(tokens[:64]).float()
        mask = torch.ones(64, 3)
        found = trained.score(held, trained.encode(held, mask), mask, ids).argmax(1)
    assert (found.numpy() == labels[:64]).mean() > 0.95


# the recipe


def test_recipe_states_its_training(tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / "manifest.json").read_text("utf-8"))
    assert manifest["training"]["sources"] == ["drawn"]
    assert manifest["training"]["config"]["images"] == TINY.images
    assert manifest["training"]["last_losses"]["muisc"]["step"] == 2.0
    assert manifest["thresholds"]["primary"]["data"] == "not set on data"


def test_catalogues_by_source(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "catalog.jsonl").write_text("")
    assert [p.parent.name for p in catalogues(tmp_path, ["one"])] == ["two"]
    with pytest.raises(TrainingError, match=r"leave_out names \['three'\]; allowed: \['one', 'two'\]"):
        catalogues(tmp_path, ["three"])
    with pytest.raises(TrainingError, match=r"holds no \*/catalog.jsonl"):
        catalogues(tmp_path / "one")


def test_budget_scales_samples_and_steps() -> None:
    half = scaled(StarterTraining(), 0.5)
    assert half.images == StarterTraining().images // 2
    assert half.image.optim.steps == StarterTraining().image.optim.steps // 2
    assert scaled(StarterTraining(), 1e-9).muisc.optim.steps == 1
