"""A bundle out of checkpoints: what was trained gets new graphs, the rest stays as a base bundle has it.

    primary     p_primary
    compliance  p_noncompliant, rules; patches and evidence where its grid of tokens is square
    muisc       sequence, feedback; tokens where it brings a backbone of its own

One role, one graph. The base's graphs that still serve a role are copied byte for byte, the others are left out, and
with the roles go the thresholds and the calibration that belong to them. See docs/bundles.md.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import nn

from agpis.bundle import Bundle, open_bundle
from agpis.bundle_manifest import (
    FORMAT_VERSION,
    IMAGE_ROLES,
    UNSET,
    Choice,
    Graph,
    Kinship,
    Limit,
    Manifest,
    Qualified,
    Resize,
    RulebookEntry,
    TextEntry,
    Threshold,
    write_manifest,
)
from agpis.checkpoint import Checkpoint, Kind, load_weights, read_checkpoint
from agpis.errors import RulebookError, TrainingError
from agpis.export import image_graph, new_bundle, sequence_graphs, text_entry
from agpis.graphs import ComplianceGraph, Exported, PrimaryGraph, TokensGraph, has_square_grid
from agpis.models.backbones import Backbone, BackboneConfig, new_backbone
from agpis.models.baselines import Baseline, BaselineConfig
from agpis.models.comparison import TokenLayout
from agpis.models.heads import HeadConfig, ImageClassifier
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel
from agpis.rulebook import Rulebook, parse_rulebook

Entry = TypeVar("Entry", Threshold, Qualified)
OWN_LIMIT: dict[Kind, Limit] = {"primary": "primary", "compliance": "noncompliant", "muisc": "qualified"}
"""The threshold that a checkpoint of this kind may bring."""
ROLE_OF_LIMIT: dict[Limit, str] = {
    "primary": "p_primary",
    "noncompliant": "p_noncompliant",
    "duplicate": "patches",
    "qualified": "sequence",
}


def open_model(folder: Path, *kinds: Kind) -> tuple[nn.Module, Checkpoint]:
    """Rebuilds a checkpoint's model with its weights, in evaluation mode; needs no network.

    Args:
        kinds: what may be in the folder; none given = any kind.

    Returns:
        `ImageClassifier` (primary, compliance), `SequenceModel` (muisc) or `Baseline`, and what config.json says.

    Raises:
        TrainingError: `bad_checkpoint` when it is none, of another kind, or does not fit itself.
    """
    checkpoint = read_checkpoint(folder, *kinds)
    try:
        module = _module(checkpoint)
    except (TypeError, ValueError, KeyError) as error:
        raise TrainingError(
            "bad_checkpoint", f"{folder / 'config.json'} describes no model of this AGPIS: {error}. Train again."
        ) from error
    load_weights(folder, module)
    return module.eval(), checkpoint


def _module(checkpoint: Checkpoint) -> nn.Module:
    """The untrained model that config.json describes. Lists become tuples again, which JSON does not know."""
    backbone = None
    if checkpoint.backbone is not None:
        backbone = new_backbone(replace(BackboneConfig(**checkpoint.backbone), pretrained=False))
    model = dict(checkpoint.model)
    if checkpoint.kind == "muisc":
        layout = model.get("layout")
        model |= {
            "layout": None if layout is None else TokenLayout(**layout),
            "cross_attention": tuple(model["cross_attention"]),
        }
        return SequenceModel(Muisc(MuiscConfig(**model)), backbone)
    if checkpoint.kind == "baseline":
        return Baseline(BaselineConfig(**model), backbone)
    config = HeadConfig(**model)
    if backbone is None or config.role != checkpoint.kind:
        raise ValueError(f"kind {checkpoint.kind!r}, role {config.role!r}, backbone {checkpoint.backbone}")
    return ImageClassifier(config, backbone)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What goes into the bundle."""

    checkpoints: dict[Kind, Checkpoint]
    primary: ImageClassifier | None
    compliance: ImageClassifier | None
    muisc: SequenceModel | None
    base: Bundle

    def backbones(self) -> dict[str, Backbone]:
        """The image networks of the checkpoints, by kind."""
        models = {"primary": self.primary, "compliance": self.compliance, "muisc": self.muisc}
        found = {kind: model.backbone for kind, model in models.items() if model is not None}
        return {kind: backbone for kind, backbone in found.items() if backbone is not None}

    def new_roles(self) -> dict[str, str]:
        """Roles that the checkpoints serve, and the name of the graph that does."""
        roles = {}
        if self.primary is not None:
            roles["p_primary"] = "primary"
        if self.compliance is not None:
            roles |= {"p_noncompliant": "compliance", "rules": "compliance"}
            if has_square_grid(self.compliance.backbone):
                roles["patches"] = "compliance"
        if self.muisc is not None:
            roles |= {"sequence": "sequence", "feedback": "decoder"}
            if self.muisc.backbone is not None:
                roles["tokens"] = "tokens"
        return roles

    def kept_roles(self) -> dict[str, str]:
        """Roles that stay with the base, and the name of its graph."""
        new = self.new_roles()
        return {role: graph for role, graph in self.base.manifest.roles.items() if role not in new}


def assemble(
    out: Path,
    *,
    bundle_id: str,
    primary: Path | None = None,
    compliance: Path | None = None,
    muisc: Path | None = None,
    base: Path | str | None = None,
    thresholds: Mapping[Limit, Threshold] | None = None,
    files: Mapping[str, str] | None = None,
    half: bool = True,
) -> Bundle:
    """Exports checkpoints, takes the rest over from `base`, compares torch with ONNX Runtime, writes and opens `out`.

    Args:
        out: folder; replaced as a whole when it holds a bundle (it may be `base`), must not exist otherwise.
        bundle_id: name of the bundle, as decisions state it.
        primary, compliance, muisc: folders of checkpoints, at least one.
        base: folder of an existing bundle; None: the starter in the package.
        thresholds: override what checkpoints and base bring.
        files: further text files by name, such as MODEL_CARD.md; the base's are not taken over.
        half: store the new graphs' weights in half precision.

    Raises:
        TrainingError: `bad_config` when the parts do not fit each other (input sizes, rulebooks, K, text),
            `bad_checkpoint` when a checkpoint is none, or its tokens are not the base's, `export_differs`,
            `export_failed`. Nothing is written then.
        BundleError: `base` is no sound bundle.
        OutputError: `not_a_bundle`, `out` exists and is something else.
    """
    if primary is None and compliance is None and muisc is None:
        raise TrainingError("bad_config", "nothing to export: give a checkpoint of primary, compliance or muisc.")
    parts = _opened(primary, compliance, muisc, open_bundle(base))
    rulebook, rulebook_yaml = _rulebook(parts)
    _check_tokens(parts)
    resize = _resize(parts)
    limits = _thresholds(parts, thresholds or {})
    with new_bundle(out) as folder:
        texts = _text(parts, folder)
        graphs = _new_graphs(parts, folder, half=half)
        roles = parts.new_roles() | _keep_graphs(parts, folder, graphs)
        (folder / "rulebook.yaml").write_bytes(rulebook_yaml)
        for name, content in (files or {}).items():
            (folder / name).write_text(content, encoding="utf-8")
        own_tokens = parts.muisc is not None and parts.muisc.backbone is not None
        manifest = Manifest(
            format=FORMAT_VERSION,
            id=bundle_id,
            rulebook=RulebookEntry(
                hash=rulebook.hash, classes=tuple(rulebook.classes), single_rules=tuple(rulebook.single_rules)
            ),
            graphs=graphs,
            roles={role: roles[role] for role in parts.base.manifest.roles},
            resize=resize,
            k=parts.base.k if parts.muisc is None else parts.muisc.muisc.config.k,
            token_layout=None if own_tokens else parts.base.manifest.token_layout,
            things=None if own_tokens else parts.base.manifest.things,
            text=texts,
            thresholds=limits,
            calibration=_calibration(parts),
            qualified=_qualified(parts),
            kinship=_kinship(parts),
            choice=_choice(parts),
            training=_training(parts),
            metrics={
                kind: {k: v for k, v in checkpoint.metrics.items() if k not in ("thresholds", "qualified")}
                for kind, checkpoint in parts.checkpoints.items()
            },
        )
        write_manifest(folder, manifest)
    return open_bundle(out)


def _opened(primary: Path | None, compliance: Path | None, muisc: Path | None, base: Bundle) -> _Parts:
    folders: dict[Kind, Path | None] = {"primary": primary, "compliance": compliance, "muisc": muisc}
    modules: dict[str, Any] = {}
    checkpoints: dict[Kind, Checkpoint] = {}
    for kind, folder in folders.items():
        if folder is not None:
            modules[kind], checkpoints[kind] = open_model(folder, kind)
    return _Parts(checkpoints, modules.get("primary"), modules.get("compliance"), modules.get("muisc"), base)


# do the parts fit


def _rulebook(parts: _Parts) -> tuple[Rulebook, bytes]:
    """The one rulebook of the bundle, and its file. Raises TrainingError when the parts have several."""
    base = parts.base
    found: dict[str, Rulebook] = {}
    for kind, checkpoint in parts.checkpoints.items():
        try:
            found[kind] = parse_rulebook(checkpoint.rulebook_yaml, f"the {kind} checkpoint's rulebook.yaml")
        except RulebookError as error:
            raise TrainingError(
                "bad_checkpoint", f"the {kind} checkpoint's rulebook cannot be read: {error}"
            ) from error
    first, rulebook = next(iter(found.items()))
    for second, other in found.items():
        if other.hash != rulebook.hash:
            raise TrainingError(
                "bad_config",
                f"the checkpoints were trained for different rulebooks, {first} for {_name(rulebook)} and {second} for "
                f"{_name(other)}: {_difference(rulebook, other, first, second)}. Train them for one.",
            )
    kept = parts.kept_roles()
    for role, what, names, theirs in (
        ("rules", "single rules", rulebook.single_rules, base.single_rules),
        ("sequence", "classes", rulebook.classes, base.classes),
    ):
        if role in kept and tuple(names) != tuple(theirs):
            raise TrainingError(
                "bad_config",
                f"the role {role!r} stays with the base bundle {base.name!r}, whose {what} are those of "
                f"{_name(base.rulebook)}; the checkpoints have {_name(rulebook)}: "
                f"{_difference(rulebook, base.rulebook, 'checkpoints', 'base')}. Give a checkpoint for that role, or "
                "train for the base's rulebook.",
            )
    counts: list[tuple[str, int, int]] = []
    if parts.compliance is not None:
        counts.append(("rules", parts.compliance.config.rules, len(rulebook.single_rules)))
    if parts.muisc is not None:
        counts.append(("classes", parts.muisc.muisc.config.classes, len(rulebook.classes)))
    for what, ours, wanted in counts:
        if ours != wanted:
            raise TrainingError(
                "bad_checkpoint", f"the model has {ours} {what}, its rulebook {_name(rulebook)} has {wanted}."
            )
    return rulebook, next(iter(parts.checkpoints.values())).rulebook_yaml.encode()


def _name(rulebook: Rulebook) -> str:
    return f"{rulebook.id} {rulebook.version} ({rulebook.hash[:8]})"


def _difference(one: Rulebook, two: Rulebook, first: str, second: str) -> str:
    """What differs, in a line: classes, single rules, or else the content of which rules."""
    said = []
    for what, ours, theirs in (
        ("classes", one.classes, two.classes),
        ("single rules", one.single_rules, two.single_rules),
    ):
        for name, mine, others in ((first, ours, theirs), (second, theirs, ours)):
            if extra := [item for item in mine if item not in others]:
                said.append(f"{what} only of {name}: {', '.join(extra)}")
        if sorted(ours) == sorted(theirs) and list(ours) != list(theirs):
            said.append(f"the order of the {what}")
    if not said:
        rules = {rule.id: rule for rule in two.rules}
        changed = [rule.id for rule in one.rules if rules.get(rule.id) != rule]
        changed += sorted(set(rules) - {rule.id for rule in one.rules})
        said.append(f"rules {', '.join(changed)}" if changed else "id, version, K or names, not the rules")
    return "; ".join(said)


def _check_tokens(parts: _Parts) -> None:
    """The sequence model reads the tokens that the bundle gives it. Raises TrainingError `bad_checkpoint`."""
    if parts.muisc is None:
        return
    config, backbone, base = parts.muisc.muisc.config, parts.muisc.backbone, parts.base
    if backbone is None:
        name = base.manifest.roles["tokens"]
        graph, wanted = base.manifest.graphs[name], parts.checkpoints["muisc"].tokens_of
        if graph.sha256 != wanted:
            raise TrainingError(
                "bad_checkpoint",
                f"the muisc checkpoint reads the tokens of an image graph with sha256 {wanted[:12] or '(none)'}..., "
                f"but {name!r}, which serves the tokens in the base bundle {base.name!r}, has "
                f"{graph.sha256[:12]}...: give the bundle that it was trained with as base.",
            )
        found: tuple[Any, ...] = next(tensor.shape[1:] for tensor in graph.outputs if tensor.name == "tokens")
    else:
        found = (backbone.tokens, backbone.width)
    if found != (config.tokens, config.token_width):
        raise TrainingError(
            "bad_checkpoint",
            f"the muisc checkpoint reads {config.tokens} tokens of {config.token_width} columns, its images give "
            f"{' of '.join(map(str, found))}. Train again.",
        )


def _resize(parts: _Parts) -> Resize:
    """THE one resize, for all image graphs. Raises TrainingError `bad_config` when their inputs differ in size."""
    base = parts.base
    sizes = {f"the {kind} checkpoint": (net.size, net.size) for kind, net in parts.backbones().items()}
    kept: dict[str, list[str]] = {}
    for role, graph in parts.kept_roles().items():
        if role in IMAGE_ROLES:
            kept.setdefault(graph, []).append(role)
    for graph, roles in kept.items():
        name = f"graph {graph!r} of the base bundle {base.name!r} (for {', '.join(roles)})"
        sizes[name] = (base.size.width, base.size.height)
    if len(set(sizes.values())) > 1:
        named = ", ".join(f"{name} {width} x {height}" for name, (width, height) in sizes.items())
        raise TrainingError(
            "bad_config",
            f"all image graphs of a bundle take one input size; found {named}. Train at one size, or give a base of "
            "that size.",
        )
    width, height = next(iter(sizes.values()))
    return base.manifest.resize if kept else Resize(width=width, height=height)


# what goes into the folder


def _new_graphs(parts: _Parts, folder: Path, *, half: bool) -> dict[str, Graph]:
    graphs: dict[str, Graph] = {}
    modules: dict[str, tuple[Exported, Backbone]] = {}
    if parts.primary is not None:
        modules["primary"] = PrimaryGraph(parts.primary), parts.primary.backbone
    if parts.compliance is not None:
        modules["compliance"] = ComplianceGraph(parts.compliance), parts.compliance.backbone
    if parts.muisc is not None and parts.muisc.backbone is not None:
        modules["tokens"] = TokensGraph(parts.muisc.backbone), parts.muisc.backbone
    for name, (module, backbone) in modules.items():
        graphs[name] = image_graph(module, folder / f"{name}.onnx", backbone.size, half=half)
    if parts.muisc is not None:
        graphs |= sequence_graphs(parts.muisc.muisc, folder, half=half)
    return graphs


def _keep_graphs(parts: _Parts, folder: Path, graphs: dict[str, Graph]) -> dict[str, str]:
    """Copies the base's graphs that still serve a role into `folder` and `graphs`; returns their roles."""
    kept = parts.kept_roles()
    names: dict[str, str] = {}
    for old in dict.fromkeys(kept.values()):
        name = Path(old).name
        while name in graphs:  # the base may have been assembled too
            name += "_base"
        entry = parts.base.manifest.graphs[old]
        shutil.copyfile(parts.base.folder / entry.file, folder / f"{name}.onnx")
        graphs[name] = entry.model_copy(update={"file": f"{name}.onnx"})
        names[old] = name
    return {role: names[graph] for role, graph in kept.items()}


def _text(parts: _Parts, folder: Path) -> TextEntry:
    """Writes tokenizer.json. Raises TrainingError when it does not fit the decoder."""
    path = folder / "tokenizer.json"
    if parts.muisc is None:
        entry = parts.base.manifest.text
        shutil.copyfile(parts.base.folder / entry.file, path)
        return entry.model_copy(update={"file": path.name})
    checkpoint = parts.checkpoints["muisc"]
    path.write_text(checkpoint.tokenizer_json, encoding="utf-8")
    try:
        return text_entry(path, parts.muisc.muisc.config, **checkpoint.text)
    except TrainingError:
        raise
    except Exception as error:  # the tokenizers package raises bare Exception
        raise TrainingError(
            "bad_checkpoint", f"the muisc checkpoint's tokenizer cannot be used ({checkpoint.text}): {error}"
        ) from error


def _thresholds(parts: _Parts, overrides: Mapping[Limit, Threshold]) -> dict[Limit, Threshold]:
    """Base's for the roles that stay, the checkpoints' for theirs, overrides above all."""
    if foreign := sorted(set(overrides) - set(UNSET)):
        raise TrainingError("bad_config", f"thresholds are {', '.join(UNSET)}; found {', '.join(foreign)}.")
    kept = parts.kept_roles()
    found = {
        name: parts.base.manifest.thresholds[name] if ROLE_OF_LIMIT[name] in kept else UNSET[name] for name in UNSET
    }
    for kind, checkpoint in parts.checkpoints.items():
        own = checkpoint.metrics.get("thresholds") or {}
        if set(own) - {OWN_LIMIT[kind]}:
            raise TrainingError(
                "bad_checkpoint",
                f"the {kind} checkpoint sets the thresholds {', '.join(own)}; it may set {OWN_LIMIT[kind]} alone.",
            )
        for name, row in own.items():
            found[name] = _valid(Threshold, row, f"threshold {name}", kind)
    return found | dict(overrides)


def _qualified(parts: _Parts) -> Qualified:
    """Calibration of the classes, with the sequence model that it was fitted on."""
    if parts.muisc is None:
        return parts.base.manifest.qualified
    return _valid(Qualified, parts.checkpoints["muisc"].metrics.get("qualified") or {}, "calibration", "muisc")


def _kinship(parts: _Parts) -> Kinship:
    """When an image is taken for another product's, which belongs to the tokens."""
    if "tokens" in parts.kept_roles():
        return parts.base.manifest.kinship
    return Kinship(data="not set on this bundle's tokens")


def _choice(parts: _Parts) -> Choice | None:
    """Weights of the choice of the primary, which belong to all that the image graphs give."""
    return parts.base.manifest.choice if parts.kept_roles().keys() >= set(IMAGE_ROLES) else None


def _valid(entry: type[Entry], row: Any, what: str, kind: Kind) -> Entry:
    try:
        return entry.model_validate(row)
    except ValidationError as error:
        raise TrainingError(
            "bad_checkpoint", f"the {what} of the {kind} checkpoint is {row!r}: {error.errors()[0]['msg']}."
        ) from error


def _calibration(parts: _Parts) -> dict[str, Any]:
    """Of the duplicate matchers, which belongs to the descriptors: patches, and for `edgeboxes` the tokens."""
    kept = parts.kept_roles()
    return {
        name: values
        for name, values in parts.base.calibration.items()
        if ("tokens" if name == "edgeboxes" else "patches") in kept
    }


def _training(parts: _Parts) -> dict[str, Any]:
    """Where each part comes from."""
    row: dict[str, Any] = {kind: checkpoint.training for kind, checkpoint in parts.checkpoints.items()}
    if kept := parts.kept_roles():
        base = parts.base.manifest
        row["base"] = {"id": base.id, "roles": sorted(kept), "training": base.training}
    found: dict[str, Any] = json.loads(json.dumps(row))
    return found
