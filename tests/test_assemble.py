"""Bundles out of checkpoints: every combination, torch's numbers, the pipeline on it; wrong ones are refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from agpis.assemble import assemble, open_model
from agpis.bundle import STARTER, Bundle, open_bundle, sha256
from agpis.bundle_manifest import IMAGE_ROLES, UNSET, Kinship, Threshold
from agpis.catalogue import read
from agpis.checkpoint import Checkpoint, Kind, write_checkpoint
from agpis.choice import FEATURES
from agpis.errors import BundleError, OutputError, TrainingError
from agpis.export import check_matchable
from agpis.graphs import ComplianceGraph, has_square_grid
from agpis.inputs import Text, train_tokenizer
from agpis.models.backbones import Backbone, BackboneConfig, new_backbone
from agpis.models.baselines import Baseline, BaselineConfig
from agpis.models.comparison import TokenLayout
from agpis.models.heads import HeadConfig, ImageClassifier
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel
from agpis.pipeline import Pipeline, Settings
from agpis.rulebook import Rulebook, load_rulebook

RULEBOOK = load_rulebook(STARTER / "rulebook.yaml")
SIZE = 224  # the starter's
TINY = BackboneConfig("tiny", pretrained=False, size=SIZE)
VIT = BackboneConfig("vit_tiny", pretrained=False, size=SIZE)
REGISTERS = BackboneConfig(
    "dinov2 with registers",
    pretrained=False,
    size=SIZE,
    architecture={
        "model_type": "dinov2_with_registers",
        "config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": SIZE,
            "patch_size": 16,
            "num_register_tokens": 4,
        },
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    },
)
"""Four register tokens beside the 196 of the grid: 200 places, no square."""
CALIBRATION = {"dense": {"bias": -9.0, "likeness": 12.0}, "edgeboxes": {"bias": -8.0, "best": 7.0}}
OPEN = Settings(
    primary_threshold=0.0, noncompliant_threshold=1.0, threshold=0.0, duplicate_threshold=1.0, feedback="always"
)


def backbone(config: BackboneConfig) -> Backbone:
    return new_backbone(config)


def classifier(role: Kind, config: BackboneConfig = TINY, rules: int = len(RULEBOOK.single_rules)) -> ImageClassifier:
    assert role in ("primary", "compliance")
    head = HeadConfig(role=role, rules=rules if role == "compliance" else 0, hidden=16)
    return ImageClassifier(head, backbone(config))


def write(folder: Path, kind: Kind, module: nn.Module, **changes: Any) -> Path:
    """A checkpoint as training writes it."""
    assert isinstance(module, (SequenceModel, ImageClassifier, Baseline))
    net = module.backbone
    fields: dict[str, Any] = {
        "kind": kind,
        "model": asdict(module.muisc.config if isinstance(module, SequenceModel) else module.config),
        "backbone": None if net is None else asdict(net.config),
        "rulebook_yaml": RULEBOOK.text(),
        "training": {"seed": 1},
    }
    write_checkpoint(folder, Checkpoint(**fields | changes), module)
    return folder


@dataclass
class Parts:
    """The base, checkpoints on disk, and the text of the sequence models with a backbone of their own."""

    base: Path
    folder: Path
    text: dict[str, Any]
    tokenizer: str

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoints")
    base = Path(shutil.copytree(STARTER, folder / "base"))
    row = json.loads((base / "manifest.json").read_text("utf-8"))
    row |= {"id": "base", "calibration": CALIBRATION, "choice": dict.fromkeys(FEATURES, 0.5) | {"data": "by hand"}}
    (base / "manifest.json").write_text(json.dumps(row), "utf-8")
    tokenizer = train_tokenizer(["round lamp", "square box"] * 3, 280)
    tokenizer.save(str(folder / "tokenizer.json"))
    words: dict[str, Any] = {"max_title": 6, "max_feedback": 5, "category": True}
    words |= {"separator": "<sep>", "end": "<end>", "pad": "<pad>"}
    parts = Parts(base, folder, words, (folder / "tokenizer.json").read_text("utf-8"))

    limits = {"thresholds": {"primary": {"value": 0.11, "data": "validation"}}, "auc": 0.7}
    write(folder / "primary", "primary", classifier("primary"), metrics=limits)
    limits = {"thresholds": {"noncompliant": {"value": 0.22, "data": "validation"}}}
    write(folder / "compliance", "compliance", classifier("compliance"), metrics=limits)
    vit = new_backbone(VIT).config
    assert vit.architecture is not None
    vit.architecture["config"]["num_hidden_layers"] = 2  # of twelve, for speed
    write(folder / "vit", "compliance", classifier("compliance", vit))
    write(folder / "registers", "compliance", classifier("compliance", REGISTERS))
    own = SequenceModel(Muisc(shape(49, 16, tied=False, compare=True, pool=2)), backbone(TINY))
    limits = {"qualified": {"temperature": 1.5, "shift": 0.25, "data": "validation"}}
    write(folder / "muisc", "muisc", own, metrics=limits, text=words, tokenizer_json=parts.tokenizer)
    plain = SequenceModel(Muisc(shape(49, 16)), backbone(TINY))
    write(folder / "paper", "muisc", plain, text=words, tokenizer_json=parts.tokenizer)
    write_on_tokens(parts)
    return parts


def shape(tokens: int, width: int, **changes: Any) -> MuiscConfig:
    small = {"width": 16, "encoder_heads": 2, "encoder_mlp": 16, "decoder_blocks": 1, "decoder_heads": 2}
    small |= {"decoder_mlp": 16, "positions": 72}
    fields = {"classes": len(RULEBOOK.classes), "vocabulary": 280, "cross_attention": (0,), **small, **changes}
    return MuiscConfig(tokens=tokens, token_width=width, **fields)


def write_on_tokens(parts: Parts) -> None:
    """A sequence model of K = 2 that reads the tokens of the base's image graph."""
    manifest = open_bundle(parts.base).manifest
    layout = TokenLayout(**manifest.token_layout or {})
    tokenizer = Text(parts.base / "tokenizer.json", max_title=32, max_feedback=32)
    config = shape(layout.tokens, layout.width, k=2, layout=layout, pool=4, vocabulary=tokenizer.vocabulary)
    write(
        parts["on_tokens"],
        "muisc",
        SequenceModel(Muisc(config)),
        tokens_of=manifest.graphs["image"].sha256,
        text=parts.text | {"max_title": 32, "max_feedback": 32},
        tokenizer_json=(parts.base / "tokenizer.json").read_text("utf-8"),
    )


# what comes back


def test_a_checkpoint_is_opened_with_its_weights(parts: Parts, tmp_path: Path) -> None:
    late = Baseline(BaselineConfig(classes=3, fusion="late", width=16), backbone(TINY))
    written: dict[Kind, nn.Module] = {"baseline": late, "primary": classifier("primary", VIT)}
    for kind, model in written.items():
        found, checkpoint = open_model(write(tmp_path / kind, kind, model))
        assert (type(found), checkpoint.kind, found.training) == (type(model), kind, False)
        torch.testing.assert_close(found.state_dict(), model.state_dict(), rtol=0, atol=0)
    sequence, checkpoint = open_model(parts["on_tokens"], "muisc")
    assert isinstance(sequence, SequenceModel)
    assert sequence.backbone is None
    assert sequence.muisc.config.layout == TokenLayout(**open_bundle(parts.base).manifest.token_layout or {})
    assert sequence.muisc.config.cross_attention == (0,)
    assert checkpoint.text["category"] is True


def test_checkpoints_that_do_not_fit_themselves(parts: Parts, tmp_path: Path) -> None:
    def refused(folder: Path, message: str, *kinds: Kind) -> None:
        with pytest.raises(TrainingError, match=message) as caught:
            open_model(folder, *kinds)
        assert caught.value.code == "bad_checkpoint"

    refused(parts["muisc"], "is a 'muisc' checkpoint; wanted primary", "primary")
    model = classifier("primary")
    refused(write(tmp_path / "role", "compliance", model), "describes no model of this AGPIS: kind 'compliance', role")
    refused(write(tmp_path / "none", "primary", model, backbone=None), "role 'primary', backbone None")
    refused(
        write(tmp_path / "key", "primary", model, model={"role": "primary", "depth": 3}), "keyword argument 'depth'"
    )
    other = asdict(replace(model.config, hidden=8))
    refused(write(tmp_path / "shape", "primary", model, model=other), "other shape .*head.hidden.weight")


COMBINATIONS: dict[str, dict[str, str]] = {
    "muisc on the base's tokens": {"muisc": "on_tokens"},
    "muisc with its own backbone": {"muisc": "paper"},
    "primary": {"primary": "primary"},
    "compliance": {"compliance": "compliance"},
    "all three": {"primary": "primary", "compliance": "vit", "muisc": "muisc"},
}
COMPLIANCE = dict.fromkeys(("p_noncompliant", "rules", "patches"), "compliance")
GRAPHS: dict[str, dict[str, str]] = {
    "muisc on the base's tokens": {"sequence": "sequence", "feedback": "decoder"},
    "muisc with its own backbone": {"sequence": "sequence", "feedback": "decoder", "tokens": "tokens"},
    "primary": {"p_primary": "primary"},
    "compliance": COMPLIANCE,
    "all three": {
        **COMPLIANCE,
        **{"p_primary": "primary", "tokens": "tokens", "sequence": "sequence", "feedback": "decoder"},
    },
}
"""The roles that each combination serves with a new graph."""


@pytest.fixture(scope="module")
def made(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The bundle of a combination, exported once."""

    @cache
    def bundle(name: str) -> Bundle:
        return assemble(
            tmp_path_factory.mktemp("made") / "new" / "bundle",
            bundle_id="mixed",
            base=parts.base,
            thresholds={"qualified": Threshold(value=0.44, data="by hand")},
            files={"MODEL_CARD.md": "weak"},
            half=False,
            **{kind: parts[folder] for kind, folder in COMBINATIONS[name].items()},
        )

    return bundle


@pytest.mark.parametrize("name", COMBINATIONS)
def test_combination(name: str, parts: Parts, made: Callable[[str], Bundle], tiny_catalogue: Path) -> None:
    bundle, base = made(name), open_bundle(parts.base)
    models = {kind: open_model(parts[folder])[0] for kind, folder in COMBINATIONS[name].items()}
    manifest = bundle.manifest
    assert (bundle.name, bundle.size, bundle.rulebook.hash) == ("mixed", base.size, RULEBOOK.hash)
    assert (bundle.folder / "MODEL_CARD.md").read_text() == "weak"
    # one role, one graph; what stays is the base's file, byte for byte; what serves nothing is not there
    assert dict(manifest.roles) == base.manifest.roles | GRAPHS[name]
    kept = {graph for role, graph in manifest.roles.items() if role not in GRAPHS[name]}
    assert {path.stem for path in bundle.folder.glob("*.onnx")} == set(manifest.graphs) == set(manifest.roles.values())
    for graph in kept:
        assert sha256(bundle.folder / f"{graph}.onnx") == base.manifest.graphs[graph].sha256
    _numbers_are_torchs(bundle, base, models)
    _thresholds_go_with_their_roles(bundle, base, set(models), set(GRAPHS[name]))
    rows = list(Pipeline(bundle.folder, OPEN)(read(str(tiny_catalogue / "catalog.jsonl"))))
    assert {row.error.code for row in rows if row.error} == {"invalid_json"}
    statuses = Counter(row.status for row in rows)  # eight of the drawn products have too few pictures, or copies
    assert statuses["generated"] >= 5, statuses
    assert {row.bundle for row in rows} == {"mixed"}


def _numbers_are_torchs(bundle: Bundle, base: Bundle, models: Mapping[str, nn.Module]) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    found, before = bundle.image(pixels), base.image(pixels)
    expected = {role: getattr(before, role) for role in ("p_primary", "p_noncompliant", "rules", "tokens", "patches")}
    with torch.inference_mode():
        images = torch.from_numpy(pixels)
        if "primary" in models:
            expected["p_primary"] = torch.sigmoid(models["primary"](images)["primary"]).numpy()
        if (compliance := models.get("compliance")) is not None:
            assert isinstance(compliance, ImageClassifier)
            out = compliance(images)
            expected["p_noncompliant"] = torch.sigmoid(out["noncompliant"]).numpy()
            expected["rules"] = torch.sigmoid(out["rules"]).numpy()
            if has_square_grid(compliance.backbone):
                grid = out["tokens"][:, int(compliance.backbone.class_token) :].numpy()
                expected["patches"] = grid / np.linalg.norm(grid, axis=-1, keepdims=True)
                assert found.evidence is not None
                assert found.evidence.shape == grid.shape[:2]
        sequence = models.get("muisc")
        assert sequence is None or isinstance(sequence, SequenceModel)
        if sequence is not None and sequence.backbone is not None:
            expected["tokens"] = sequence.backbone(images).numpy()
        for role, numbers in expected.items():
            np.testing.assert_allclose(getattr(found, role), numbers, rtol=1e-4, atol=1e-5, err_msg=role)
        tokens = found.tokens.reshape(2, 2, *found.tokens.shape[1:])
        if sequence is None:
            np.testing.assert_array_equal(
                bundle.sequence(tokens, "round lamp", "home"), base.sequence(tokens, "round lamp", "home")
            )
            assert bundle.feedback(tokens[0], "round lamp", "home") == base.feedback(tokens[0], "round lamp", "home")
            return
        config = sequence.muisc.config
        assert (bundle.k, bundle.text.category) == (config.k, True)
        ids = torch.tensor([bundle.text.title("round lamp", "home")])
        padded, mask = np.zeros((2, config.k, *tokens.shape[2:]), np.float32), torch.zeros(2, config.k)
        padded[:, :2], mask[:, :2] = tokens, 1.0
        logits, _ = sequence.muisc(
            torch.from_numpy(padded), mask, ids.expand(2, -1), torch.full((2,), ids.shape[1] - 1)
        )
        logits = torch.log_softmax(logits, -1) / bundle.manifest.qualified.temperature
        logits[:, 0] += bundle.manifest.qualified.shift
        scored = bundle.sequence(tokens, "round lamp", "home")
        np.testing.assert_allclose(scored, torch.softmax(logits, -1).numpy(), atol=1e-5)
        # feedback, greedy, without a cache
        memory = sequence.muisc.encode(torch.from_numpy(padded[:1]), mask[:1])
        written: list[int] = []
        while len(written) < bundle.text.max_feedback:
            so_far = torch.cat([ids, torch.tensor([written], dtype=torch.long)], dim=1)
            hidden = sequence.muisc.decode(so_far, memory, sequence.muisc.memory_mask(mask[:1]))
            written.append(int(sequence.muisc.lm_logits(hidden[:, -1]).argmax()))
            if written[-1] == bundle.text.end:
                break
        written = [token for token in written if token != bundle.text.end]
        assert bundle.feedback(tokens[0], "round lamp", "home") == bundle.text.words(written)


def _thresholds_go_with_their_roles(bundle: Bundle, base: Bundle, kinds: set[str], new: set[str]) -> None:
    manifest, old = bundle.manifest, base.manifest
    assert manifest.thresholds["qualified"].value == 0.44
    assert bundle.thresholds["primary"] == (0.11 if "primary" in kinds else old.thresholds["primary"].value)
    # the ViT's checkpoint brings none
    limit = 0.22 if manifest.roles["tokens"] == "image" else UNSET["noncompliant"].value
    assert bundle.thresholds["noncompliant"] == (
        limit if "compliance" in kinds else old.thresholds["noncompliant"].value
    )
    assert manifest.thresholds["duplicate"] == (UNSET["duplicate"] if "patches" in new else old.thresholds["duplicate"])
    assert manifest.token_layout == (None if "tokens" in new else old.token_layout)
    if "muisc" in kinds:
        assert manifest.qualified.temperature == (1.5 if kinds == set(COMBINATIONS["all three"]) else 1.0)
    else:
        assert (manifest.qualified, manifest.text, bundle.k) == (old.qualified, old.text, base.k)
    assert set(manifest.training) == kinds | ({"base"} if set(old.roles) - new else set())
    left = [name for name, role in (("dense", "patches"), ("edgeboxes", "tokens")) if role not in new]
    assert manifest.calibration == {name: CALIBRATION[name] for name in left}
    assert manifest.metrics.get("primary", {"auc": 0.7}) == {"auc": 0.7}
    assert manifest.kinship == (Kinship(data="not set on this bundle's tokens") if "tokens" in new else old.kinship)
    assert old.choice is not None
    assert manifest.choice == (None if new & set(IMAGE_ROLES) else old.choice)


def test_an_assembled_bundle_is_a_base_too(parts: Parts, made: Callable[[str], Bundle], tmp_path: Path) -> None:
    """A graph of the base that bears a new graph's name is renamed; a bundle may replace its own base."""
    first = made("compliance")
    out = Path(shutil.copytree(first.folder, tmp_path / "bundle"))
    second = assemble(out, bundle_id="second", compliance=parts["registers"], base=out)
    roles = {"p_noncompliant": "compliance", "rules": "compliance", "patches": "compliance_base"}
    assert second.manifest.roles == first.manifest.roles | roles
    assert sha256(out / "compliance_base.onnx") == sha256(first.folder / "compliance.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    found, before = second.image(pixels), first.image(pixels)
    np.testing.assert_array_equal(found.patches, before.patches)
    assert not np.allclose(found.p_noncompliant, before.p_noncompliant)
    assert (before.evidence is None, found.evidence is None) == (False, True)


def test_the_starter_is_the_base_when_none_is_given(parts: Parts, tmp_path: Path) -> None:
    bundle = assemble(tmp_path / "bundle", bundle_id="b", primary=parts["primary"])
    assert bundle.manifest.training["base"]["id"] == open_bundle(None).name
    assert sha256(bundle.folder / "image.onnx") == sha256(STARTER / "image.onnx")


# what is refused


def test_what_does_not_fit_is_refused_and_nothing_written(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(code: str, message: str, **arguments: Any) -> None:
        with pytest.raises(TrainingError, match=message) as caught:
            assemble(out, bundle_id="x", **{"base": parts.base, **arguments})
        assert caught.value.code == code
        assert not out.exists()

    refused("bad_config", "nothing to export: give a checkpoint of primary, compliance or muisc")
    refused("bad_checkpoint", "is a 'compliance' checkpoint; wanted primary", primary=parts["compliance"])
    foreign = open_model(parts["on_tokens"])[0]
    row = write(tmp_path / "other", "muisc", foreign, tokens_of="0" * 64, text=parts.text)
    message = "tokens of an image graph with sha256 000000000000.*'image', which serves .* bundle 'base', has .*as base"
    refused("bad_checkpoint", message, muisc=row)
    small = write(tmp_path / "small", "primary", classifier("primary", replace(TINY, size=96)))
    message = r"found the primary checkpoint 96 x 96, graph 'image' of the base bundle 'base' \(.*tokens.* 224 x 224"
    refused("bad_config", message, primary=small)
    message = "found the primary checkpoint 96 x 96, the muisc checkpoint 224 x 224, graph 'image'"
    refused("bad_config", message, primary=small, muisc=parts["muisc"])

    few = Rulebook.model_validate({**RULEBOOK.model_dump(mode="python"), "rules": RULEBOOK.rules[1:]})
    other = write(
        tmp_path / "few",
        "compliance",
        classifier("compliance", rules=len(few.single_rules)),
        rulebook_yaml=few.text(),
    )
    message = (
        r"primary for default .* and compliance for default .*: classes only of primary: banner; .*Train them for one"
    )
    refused("bad_config", message, primary=parts["primary"], compliance=other)
    message = r"the role 'sequence' stays with the base bundle 'base', whose classes .*classes only of base: banner"
    refused("bad_config", message, compliance=other)
    named = RULEBOOK.model_copy(update={"version": "99"})
    again = write(tmp_path / "named", "primary", classifier("primary"), rulebook_yaml=named.text())
    message = "id, version, K or names, not the rules"
    refused("bad_config", message, primary=again, compliance=parts["compliance"])
    wrong = write(tmp_path / "wrong", "compliance", classifier("compliance", rules=3))
    refused("bad_checkpoint", "the model has 3 rules, its rulebook default .* has 19", compliance=wrong)
    broken = write(tmp_path / "broken", "primary", classifier("primary"), rulebook_yaml="rules: 3\n")
    refused(
        "bad_checkpoint", r"the primary checkpoint's rulebook cannot be read: (?s:.*)rules: found 3", primary=broken
    )

    for limits, message in (
        ({"qualified": {"value": 0.1, "data": ""}}, "sets the thresholds qualified; it may set primary alone"),
        (
            {"primary": {"value": 7, "data": ""}},
            "threshold primary of the primary checkpoint is .*less than or equal to 1",
        ),
    ):
        row = write(tmp_path / "limits", "primary", classifier("primary"), metrics={"thresholds": limits})
        refused("bad_checkpoint", message, primary=row)
    limit = {"best": Threshold(value=0.1, data="")}
    refused("bad_config", "found best", primary=parts["primary"], thresholds=limit)

    model, _ = open_model(parts["muisc"])
    for change, code, message in (
        ({"text": {**parts.text, "end": "<stop>"}}, "bad_checkpoint", "tokenizer cannot be used .*<stop>"),
        ({"text": {**parts.text, "max_title": 70}}, "bad_config", "may take 76 tokens, the decoder has 72 positions"),
        ({"tokenizer_json": "{"}, "bad_checkpoint", "tokenizer cannot be used"),
    ):
        row = write(
            tmp_path / "text", "muisc", model, **{"text": parts.text, "tokenizer_json": parts.tokenizer, **change}
        )
        refused(code, message, muisc=row)
    foreign = SequenceModel(Muisc(shape(9, 16)), backbone(TINY))
    row = write(tmp_path / "foreign", "muisc", foreign, text=parts.text, tokenizer_json=parts.tokenizer)
    refused("bad_checkpoint", "reads 9 tokens of 16 columns, its images give 49 of 16", muisc=row)


def test_places_and_bases_that_are_none(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        assemble(tmp_path / "out", bundle_id="x", primary=parts["primary"], base=tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(OutputError, match="exists and is no bundle") as caught:
            assemble(out, bundle_id="x", primary=parts["primary"], base=parts.base)
        assert caught.value.code == "not_a_bundle"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_patches_need_a_square_grid(parts: Parts) -> None:
    net = backbone(REGISTERS)
    assert (net.tokens, net.class_token, has_square_grid(net)) == (201, True, False)
    assert ComplianceGraph(classifier("compliance", REGISTERS)).outputs == ("p_noncompliant", "rules")
    assert not has_square_grid(backbone(replace(TINY, size=32)))  # 1 x 1
    manifest = open_bundle(parts.base).manifest
    check_matchable(manifest)
    row = manifest.model_dump(mode="json")
    for output in row["graphs"]["image"]["outputs"]:
        if output["name"] == "patches":
            output["shape"] = ["n", 15, 16]
    with pytest.raises(TrainingError, match=r"'patches' of image.onnx has the shape \['n', 15, 16\] .* G of 2 or more"):
        check_matchable(type(manifest).model_validate(row))
