"""What manifest.json of a bundle holds: pydantic models, read, checked and written. `agpis.bundle` opens the rest.

BundleError codes: not_found, bad_manifest, format_version (see docs/errors.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agpis.errors import BundleError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

IMAGE_ROLES = ("p_primary", "p_noncompliant", "rules", "tokens", "patches")
ROLES = (*IMAGE_ROLES, "sequence", "feedback")
Limit = Literal["primary", "noncompliant", "duplicate", "qualified"]
"""What has a threshold."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tensor(_Entry):
    """One input or output of a graph; a string in `shape` is a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph(_Entry):
    """One ONNX file and its exact signature."""

    file: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class RulebookEntry(_Entry):
    """The rulebook in the bundle, its content hash and the lists that the graphs' outputs are in the order of."""

    file: str = "rulebook.yaml"
    hash: str
    classes: tuple[str, ...]
    single_rules: tuple[str, ...]


class Resize(_Entry):
    """The recipe of THE one resize for this bundle's image graphs."""

    method: Literal["letterbox"] = "letterbox"
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fill: int = Field(default=255, ge=0, le=255)


class TextEntry(_Entry):
    """The tokenizer and the lengths it is used with."""

    file: str = "tokenizer.json"
    sha256: str
    max_title: int = Field(gt=0)
    max_feedback: int = Field(gt=0)
    category: bool = False
    separator: str
    end: str
    pad: str


class Threshold(_Entry):
    """A limit on a probability and the data it was set on."""

    value: float = Field(ge=0, le=1)
    data: str


UNSET: dict[Limit, Threshold] = {
    "primary": Threshold(value=0.3, data="not set on data"),
    "noncompliant": Threshold(value=0.5, data="not set on data"),
    "duplicate": Threshold(value=0.9, data="not set on this bundle's patches"),
    "qualified": Threshold(value=0.3, data="the paper's submission threshold (5.1)"),
}
"""Of roles that bring none. 0.9 for duplicates is set by hand, for the matcher on keypoints and pixels with
`agpis.duplicates.CALIBRATION`; docs/results.md says what false alarms and recall it has."""


class Qualified(_Entry):
    """Calibration of the sequence graph's classes: log p / temperature, plus shift for `qualified`, softmax again."""

    temperature: float = Field(default=1.0, gt=0)
    shift: float = 0.0
    data: str = "not calibrated"


class Kinship(_Entry):
    """When an image is taken for another product's (`agpis.kinship`). Margins belong to the tokens."""

    middle: float = -0.30
    """Margin at which a stranger is as likely as not. `python -m bench.kinship` fits -0.09 on the starter's tokens, for
    as many strangers as kin; of 20 images of a merchant's about one is a stranger, which moves it by -width * log(19)
    (Bayes)."""
    width: float = Field(default=0.07, gt=0)
    """Of the logistic."""
    removed: float = -0.26
    """Images with a margin below this are removed: the limit that `python -m bench.planted` was measured with. That is
    before the odds are even, because a stranger in a sequence costs more than a spare image that is not shown."""
    colours: float = Field(default=0.0, ge=0)
    """Weight of the colour signatures' likeness, where that of the mean tokens is 1."""
    titles: float = Field(default=0.0, ge=0)
    """Added to the margin for each unit by which the image shows what the title names better than the others do."""
    data: str = "the starter's tokens"


class Weighing(_Entry):
    """p_qualified out of the sequence model's answer and stage 1's evidence: a logistic regression, whose features
    `agpis.weighing` explains."""

    bias: float
    p_qualified: float = Field(ge=0)
    kin: float = Field(ge=0)
    apart: float = Field(ge=0)
    clean: float = Field(ge=0)
    p_primary: float
    margin: float
    stacked: tuple[float, ...] = ()
    """Of `agpis.stacking.FEATURES`, each less its mean; (): these are not heard, nor of one image alone."""
    means: tuple[float, ...] = ()
    data: str

    @model_validator(mode="after")
    def _paired(self) -> Weighing:
        if len(self.stacked) != len(self.means):
            raise ValueError(f"stacked has {len(self.stacked)} numbers and means {len(self.means)}; they are pairs")
        return self


class Stacking(_Entry):
    """p_qualified out of the sequence model's answer and all that the other models know of the sequence, by a graph
    whose features `agpis.stacking` explains; log odds / temperature + shift."""

    graph: str = "stacking"
    """In `graphs`: `features` float32 (S, F) -> `logit` float32 (S, 1)."""
    features: tuple[str, ...]
    temperature: float = Field(default=1.0, gt=0)
    shift: float = 0.0
    data: str


class Choice(_Entry):
    """Weights of what speaks for an image as the primary; `agpis.choice.FEATURES` explains each. All speak for it but
    `looks`."""

    primary: float = Field(ge=0)
    clean: float = Field(ge=0)
    unmarked: float = Field(ge=0)
    whole: float = Field(ge=0)
    alike: float = Field(ge=0)
    colours: float = Field(ge=0)
    found: float = Field(ge=0)
    holds: float = Field(ge=0)
    entire: float = Field(ge=0)
    cleanest: float = Field(ge=0)
    looks: tuple[float, ...] = ()
    """Of the image's mean token, one a column (`agpis.choice.looks`): what leads in this shop. (): nothing is known."""
    data: str


class Usual(_Entry):
    """Mean and standard deviation of a quantity."""

    mean: float
    spread: float = Field(gt=0)


class RuleUsual(Usual):
    """Of a single rule's largest logit over the images of accepted sequences."""

    bias: float
    """What is added to the rule's score."""


class Naming(_Entry):
    """Which rule a rejected sequence breaks: a multinomial logistic regression, whose facts `agpis.naming` explains."""

    facts: dict[str, Usual]
    """By fact, on rejected sequences."""
    rules: dict[str, RuleUsual]
    """By single rule."""
    kinds: dict[str, dict[str, float]]
    """Coefficients by kind of rule or scope, then by name."""
    data: str


class Things(_Entry):
    """Nouns that titles are searched for (`agpis.titles`): one entry a column of the output `things` of the graph that
    gives the tokens, float32 (N, L), log ratios."""

    words: tuple[tuple[str, ...], ...]
    data: str


class Manifest(_Entry):
    """Contents of manifest.json."""

    format: int
    id: str = Field(min_length=1)
    rulebook: RulebookEntry
    graphs: dict[str, Graph]
    roles: dict[str, str]
    resize: Resize
    k: int = Field(ge=1)
    token_layout: dict[str, int] | None = None
    """Columns of the tokens: the fields of `agpis.models.muisc.TokenLayout`; None when they are a plain grid."""
    text: TextEntry
    thresholds: dict[Limit, Threshold]
    calibration: dict[str, Any] = {}
    """Of the duplicate matchers, see `agpis.duplicates.CALIBRATION`."""
    qualified: Qualified = Qualified()
    kinship: Kinship = Kinship()
    choice: Choice | None = None
    """None: the primary is the image with the largest p_primary, weighed by kinship (`agpis.case`)."""
    stacking: Stacking | None = None
    """None: p_qualified is the sequence model's."""
    weighing: Weighing | None = None
    """None: the probabilities are multiplied, with hand-set powers (`agpis.case`)."""
    things: Things | None = None
    """None: nothing is known of what pictures show, in words."""
    naming: Naming | None = None
    """None: the rule is named with hand-set weights (`agpis.evidence.weighed`)."""
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        if set(self.roles) != set(ROLES):
            raise ValueError(f"roles are {sorted(self.roles)}; they must be exactly {sorted(ROLES)}")
        foreign = sorted(set(self.roles.values()) - set(self.graphs))
        if foreign:
            raise ValueError(f"roles name the graphs {foreign}; graphs has {sorted(self.graphs)}")
        if self.stacking is not None and self.stacking.graph not in self.graphs:
            raise ValueError(f"stacking names the graph {self.stacking.graph!r}; graphs has {sorted(self.graphs)}")
        missing = set(UNSET) - set(self.thresholds)
        if missing:
            raise ValueError(f"thresholds lacks {sorted(missing)}")
        return self

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Names of all catalogues and sample files that any part was trained on, as `training` says."""
        return tuple(sorted(set(_sources(self.training))))

    @property
    def hold_out(self) -> float:
        """Share of the styles of those catalogues that was held out; 0 unless every part says so."""
        return float(min(_values(self.training, "hold_out"), default=0.0))


def _values(training: Any, name: str) -> list[Any]:
    """Every value of that name in nested mappings."""
    if not isinstance(training, dict):
        return []
    found = [training[name]] if name in training else []
    return [*found, *(value for part in training.values() for value in _values(part, name))]


def _sources(training: Any) -> list[str]:
    return [str(name) for names in _values(training, "sources") for name in names]


def read_manifest(folder: Path) -> Manifest:
    """Reads and validates `folder`/manifest.json; opens no graph. Raises BundleError."""
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(
            "not_found", f"no bundle at {folder}: {MANIFEST} is missing. Give a folder made by `agpis export`."
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BundleError("bad_manifest", f"{path} is not JSON: {error}. Export the bundle again.") from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and version != FORMAT_VERSION:
        raise BundleError(
            "format_version",
            f"{path} has format {version!r}; this version of AGPIS reads format {FORMAT_VERSION}. "
            "Export the bundle again, or install the matching version of agpis.",
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise BundleError("bad_manifest", f"{path}: {faults}. Export the bundle again.") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json, last of all files of a bundle, so that its presence means that the bundle is complete."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
