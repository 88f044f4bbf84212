"""Training of the single-image models from verdicts, on drawn pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agpis.checkpoint import load_weights, read_checkpoint
from agpis.data import Verdict
from agpis.errors import TrainingError
from agpis.image_labels import image_labels, primary_groups
from agpis.images import Size, decode, letterbox
from agpis.loop import Optim, Part
from agpis.metrics import auc
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.heads import HeadConfig, ImageClassifier
from agpis.pixels import Pixels
from agpis.rulebook import load_rulebook
from agpis.samples import Labelled, labelled
from agpis.single_run import Loader, SingleReport, Table, distinct
from agpis.train_single import ComplianceTraining, PrimaryTraining, train_compliance, train_primary
from tests.conftest import save_photo
from tests.tiny import COLOURS, draw_picture

pytestmark = pytest.mark.usefixtures("one_thread")

RULEBOOK = load_rulebook("default")
TINY = BackboneConfig("tiny", pretrained=False, size=64)
OPTIM = Optim(batch=8, lr=1e-2, epochs=40, evaluate=8, patience=8, bf16=False)
FROZEN_PRIMARY = PrimaryTraining(backbone=TINY, optim=OPTIM, hidden=32, dropout=0.0)
WHOLE_PRIMARY = replace(FROZEN_PRIMARY, freeze=False, tower_rate=0.5, workers=1, optim=replace(OPTIM, epochs=15))
FROZEN_COMPLIANCE = ComplianceTraining(backbone=TINY, optim=replace(OPTIM, batch=16), hidden=32, dropout=0.0)
WHOLE_COMPLIANCE = replace(FROZEN_COMPLIANCE, freeze=False, tower_rate=0.5, workers=1, optim=replace(OPTIM, epochs=15))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty products in two views, on dark ground, and with a magenta cast."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    for number in range(40):
        colour = list(COLOURS.values())[number % 3]
        for view in ("front", "detail"):
            save_photo(folder / f"{number}-{view}.jpg", draw_picture(number % 4, colour, view, rng))
        save_photo(folder / f"{number}-dark.jpg", draw_picture(number % 4, colour, "front", rng) // 3)
        tinted = draw_picture(number % 4, colour, "front", rng)
        tinted[..., 1] //= 3
        save_photo(folder / f"{number}-tinted.jpg", tinted)
    return folder


def split(number: int) -> str:
    return ("train", "train", "train", "validation", "test")[number % 5]


def reviewed(folder: Path, numbers: Sequence[int] = range(40)) -> list[Labelled]:
    """Each product once accepted, and once rejected for the bar."""
    verdicts = []
    for number in numbers:
        uris = {view: f"{number}-{view}.jpg" for view in ("front", "detail", "dark", "tinted")}
        common = {"sku": f"P{number}", "title": "Thing", "base": str(folder), "split": split(number)}
        shown = (uris["front"], uris["dark"])
        order = np.random.default_rng(number).permutation([uris["front"], uris["detail"], uris["dark"]])
        verdicts.append(Verdict(**common, sequence=shown, accepted=True, candidates=tuple(map(str, order))))
        verdicts.append(
            Verdict(
                **common,
                sequence=(uris["dark"], uris["tinted"]),
                accepted=False,
                rules=("colour_cast",),
                image_index=1,
                feedback="The colours are off.",
            )
        )
    return labelled(verdicts, RULEBOOK)


def rebuilt(folder: Path, kind: str) -> ImageClassifier:
    """As the export does it: from the folder alone."""
    found = read_checkpoint(folder, kind)
    assert found.backbone is not None
    model = ImageClassifier(HeadConfig(**found.model), new_backbone(BackboneConfig(**found.backbone)))
    load_weights(folder, model)
    return model.eval()


def seen(folder: Path, uris: Sequence[str]) -> torch.Tensor:
    pictures = [decode((folder / uri).read_bytes()).pixels for uri in uris]
    return torch.from_numpy(np.stack([letterbox(p, Size(width=64, height=64)) for p in pictures]))


def probabilities(checkpoint: Path, kind: str, folder: Path, uris: Sequence[str]) -> np.ndarray:
    """Of what the checkpoint says, by a way of its own."""
    name = "primary" if kind == "primary" else "noncompliant"
    with torch.inference_mode():
        return torch.sigmoid(rebuilt(checkpoint, kind)(seen(folder, uris))[name]).numpy()


def figures(report: SingleReport, checkpoint: Path) -> dict[str, object]:
    content = json.loads((checkpoint / "config.json").read_text())
    assert content["metrics"] == json.loads(json.dumps(report.metrics))
    assert content["training"]["samples"] == report.counts
    return dict(content["metrics"])


@pytest.mark.parametrize("training", [FROZEN_PRIMARY, WHOLE_PRIMARY], ids=["frozen", "whole"])
def test_primary_is_learned_and_the_checkpoint_says_the_same(
    training: PrimaryTraining, shop: Path, tmp_path: Path
) -> None:
    report = train_primary(primary_groups(reviewed(shop)), RULEBOOK, training, tmp_path / "p", progress=False)
    metrics = figures(report, tmp_path / "p")
    assert report.counts == {
        "train": {"products": 24, "choices": 24, "pictures": 72},
        "validation": {"products": 8, "choices": 8, "pictures": 24},
    }
    assert report.bad == ()
    assert metrics["auc"] > 0.9
    assert metrics["top1"] > 0.8
    # the same figures from the checkpoint alone
    held = [n for n in range(40) if split(n) == "validation"]
    uris = [f"{n}-{view}.jpg" for n in held for view in ("front", "detail", "dark")]
    p = probabilities(tmp_path / "p", "primary", shop, uris).reshape(8, 3)
    assert auc(p.ravel(), np.tile([True, False, False], 8)) == pytest.approx(metrics["auc"], abs=0.01)
    # 3 % of 8 products is none: the threshold lies below the weakest of them, and no further down than rounding
    threshold = metrics["thresholds"]["primary"]
    assert threshold["value"] == pytest.approx(p[:, 0].min(), abs=2e-3)
    assert threshold["data"] == "3% of 8 validation products lose their best picture"
    # and on products that took no part
    unseen = [f"{n}-{view}.jpg" for n in range(40) if split(n) == "test" for view in ("front", "detail", "dark")]
    q = probabilities(tmp_path / "p", "primary", shop, unseen)
    assert auc(q, np.tile([True, False, False], 8)) > 0.9


@pytest.mark.parametrize("training", [FROZEN_COMPLIANCE, WHOLE_COMPLIANCE], ids=["frozen", "whole"])
def test_compliance_is_learned_and_the_checkpoint_says_the_same(
    training: ComplianceTraining, shop: Path, tmp_path: Path
) -> None:
    labels = image_labels(reviewed(shop), RULEBOOK)
    report = train_compliance(labels, RULEBOOK, training, tmp_path / "c", progress=False)
    metrics = figures(report, tmp_path / "c")
    assert report.counts == {"train": {"clean": 48, "broken": 24}, "validation": {"clean": 16, "broken": 8}}
    assert metrics["auc"] > 0.9
    assert set(metrics["rules"]) == {"colour_cast"}
    assert metrics["rules"]["colour_cast"] > 0.9
    assert any("No training picture breaks" in note and "logo" in note for note in report.notes)
    held = [n for n in range(40) if split(n) == "validation"]
    clean = [f"{n}-{view}.jpg" for n in held for view in ("front", "dark")]
    p = probabilities(tmp_path / "c", "compliance", shop, clean)
    threshold = metrics["thresholds"]["noncompliant"]
    assert threshold["value"] == pytest.approx(p.max(), abs=2e-3)  # 3 % of 16 pictures is none
    assert threshold["data"] == "3% false alarms on 16 clean validation pictures"
    unseen = [n for n in range(40) if split(n) == "test"]
    q = probabilities(tmp_path / "c", "compliance", shop, [f"{n}-{v}.jpg" for n in unseen for v in ("front", "tinted")])
    assert auc(q, np.tile([False, True], 8)) > 0.9
    named = rebuilt(tmp_path / "c", "compliance")(seen(shop, ["4-tinted.jpg"]))["rules"][0]
    assert RULEBOOK.single_rules[int(named.argmax())] == "colour_cast"


# Bad pictures


@pytest.fixture
def torn(shop: Path, tmp_path: Path) -> Path:
    """The shop with a primary cut off, a candidate that is a web page, and a picture that is not there."""
    folder = tmp_path / "torn"
    folder.mkdir()
    for path in shop.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    whole = (folder / "0-front.jpg").read_bytes()
    (folder / "0-front.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "1-detail.jpg").write_text("<html><body>404</body></html>")
    (folder / "3-front.jpg").unlink()
    return folder


BAD = {"0-front.jpg": "truncated", "1-detail.jpg": "html", "3-front.jpg": "not_found"}


@pytest.mark.parametrize("training", [FROZEN_PRIMARY, WHOLE_PRIMARY], ids=["frozen", "whole"])
def test_bad_pictures_are_named_and_left_out(
    training: PrimaryTraining, torn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = replace(training, optim=replace(OPTIM, epochs=1))
    report = train_primary(primary_groups(reviewed(torn)), RULEBOOK, training, tmp_path / "p")
    assert {bad.uri: bad.code for bad in report.bad} == BAD
    # product 0 lost its primary, 1 a candidate, 3 (validation) its primary
    assert report.counts == {
        "train": {"products": 23, "choices": 23, "pictures": 68},
        "validation": {"products": 7, "choices": 7, "pictures": 21},
    }
    kept = json.loads((tmp_path / "p" / "config.json").read_text())["training"]["bad"]
    assert kept == [asdict(bad) for bad in report.bad]
    printed = capsys.readouterr().err
    assert "left out, unreadable: 1 html, 1 not_found, 1 truncated" in printed
    assert all(bad.message in printed for bad in report.bad)


def test_a_bad_picture_reaches_no_batch(torn: Path) -> None:
    groups = primary_groups(reviewed(torn, [0, 1, 2]))
    images, rows = distinct(group.images for group in groups)
    table = Table.of(rows, [group.primary for group in groups])
    loader = Loader(table, Pixels(images, 64))
    data, batch = loader(Part(np.array([2, 0, 1]), np.array([2, 0, 1]), 0))
    uris = [images[table.rows[place]].uri for place in batch.places]
    assert sorted(uris) == ["1-dark.jpg", "1-front.jpg", "2-dark.jpg", "2-detail.jpg", "2-front.jpg"]
    assert [[2, 0, 1][owner] for owner in batch.owner] == [int(uri[0]) for uri in uris]
    torch.testing.assert_close(data, seen(torn, uris))
    assert {bad.uri for bad in batch.bad.values()} == {"0-front.jpg", "1-detail.jpg"}
    # known before: the same pictures, without asking the loader
    ok = np.array([image.uri not in BAD for image in images])
    kept, left = table.kept(ok)
    assert sorted(images[row].uri for row in kept.rows) == sorted(uris)
    assert left.tolist() == [1, 2]
    assert [images[row].uri for row in kept.rows[kept.needed]] == ["1-front.jpg", "2-front.jpg"]


def test_a_step_without_a_readable_picture_is_survived(torn: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        for view in ("front", "detail", "dark"):
            (torn / f"{number}-{view}.jpg").write_text("<html>")
    samples = reviewed(torn, [0, 1, 2, 5, 6])
    optim = Optim(batch=1, lr=1e-3, steps=5, bf16=False)
    report = train_primary(
        primary_groups(samples),
        RULEBOOK,
        replace(WHOLE_PRIMARY, workers=0, optim=optim),
        tmp_path / "p",
        progress=False,
    )
    assert len(report.bad) == 6
    assert report.counts["train"] == {"products": 3, "choices": 3, "pictures": 9}


# Too little to train on


def test_too_few_products(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="found 3 choices of a primary to train on") as caught:
        train_primary(primary_groups(reviewed(shop, [0, 1, 2])), RULEBOOK, FROZEN_PRIMARY, tmp_path / "p")
    assert caught.value.code == "too_few_samples"
    assert not (tmp_path / "p").exists()


def test_too_few_that_can_be_read(torn: Path, tmp_path: Path) -> None:
    groups = primary_groups(reviewed(torn, [0, 1, 2, 5]))
    with pytest.raises(TrainingError, match="found 3 choices whose primary can be read") as caught:
        train_primary(groups, RULEBOOK, FROZEN_PRIMARY, tmp_path / "p", progress=False)
    assert caught.value.code == "too_few_samples"


def test_pictures_of_one_kind(shop: Path, tmp_path: Path) -> None:
    accepted = [sample for sample in reviewed(shop) if sample.verdict.accepted]
    with pytest.raises(TrainingError, match="found 48 clean and 0 broken pictures to train on, allowed is 4") as caught:
        train_compliance(image_labels(accepted, RULEBOOK), RULEBOOK, FROZEN_COMPLIANCE, tmp_path / "c")
    assert caught.value.code == "too_few_samples"


@pytest.mark.parametrize("freeze", [True, False])
def test_nothing_can_be_read(freeze: bool, tmp_path: Path) -> None:
    groups = primary_groups(reviewed(tmp_path / "nowhere"))
    with pytest.raises(TrainingError, match=r"none of .* pictures .*could be read") as caught:
        train_primary(groups, RULEBOOK, replace(FROZEN_PRIMARY, freeze=freeze), tmp_path / "p", progress=False)
    assert caught.value.code == "no_readable_image"


def test_without_a_validation_split_it_goes_on_and_says_so(shop: Path, tmp_path: Path) -> None:
    samples = [sample for sample in reviewed(shop) if sample.split == "train"]
    short = replace(OPTIM, epochs=1)
    report = train_primary(
        primary_groups(samples), RULEBOOK, replace(FROZEN_PRIMARY, optim=short), tmp_path / "p", progress=False
    )
    assert report.metrics == {"thresholds": {"primary": {"value": 0.3, "data": "not set on data"}}}
    assert report.notes == (
        "No validation figure: trained to the end, without early stopping.",
        "No validation products: the threshold of p_primary is not set on data.",
    )
    assert report.counts["validation"] == {"products": 0, "choices": 0, "pictures": 0}
    assert "not set on data" in str(report)
    labels = image_labels(samples, RULEBOOK)
    clean = train_compliance(labels, RULEBOOK, replace(FROZEN_COMPLIANCE, optim=short), tmp_path / "c", progress=False)
    assert clean.metrics["thresholds"] == {"noncompliant": {"value": 0.5, "data": "not set on data"}}
    assert "The validation pictures are not of both kinds: there is no AUC of p_noncompliant." in clean.notes


# Options


def test_the_prior_moves_the_probability_and_not_the_order(shop: Path, tmp_path: Path) -> None:
    labels = image_labels(reviewed(shop), RULEBOOK)
    training = replace(FROZEN_COMPLIANCE, optim=replace(OPTIM, epochs=2))
    uris = [f"{n}-{view}.jpg" for n in range(4) for view in ("front", "tinted")]
    found = []
    for prior in (None, 0.05):
        out = tmp_path / str(prior)
        cache = tmp_path / "tokens"
        train_compliance(labels, RULEBOOK, replace(training, prior=prior), out, cache=cache, progress=False)
        p = probabilities(out, "compliance", shop, uris).astype(np.float64)
        found.append(np.log(p / (1 - p)))
    # a third of the training pictures are broken
    np.testing.assert_allclose(found[1] - found[0], np.log(0.05 / 0.95) - np.log(0.5), atol=1e-4)
    assert len(list((tmp_path / "tokens").glob("*.npy"))) == 1  # the cache was shared


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PrimaryTraining(lost=1.0), r"lost is 1\.0"),
        (lambda: PrimaryTraining(workers=-1), "workers -1"),
        (lambda: ComplianceTraining(prior=0.0), r"prior is 0\.0"),
        (lambda: ComplianceTraining(rare=2.0), r"rare 2\.0"),
        (lambda: ComplianceTraining(false_alarms=-0.1), r"false_alarms is -0\.1"),
        (lambda: ComplianceTraining(tower_rate=-1.0), r"tower_rate -1\.0"),
    ],
)
def test_options_that_cannot_be_meant(make: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        make()
    assert caught.value.code == "bad_config"
