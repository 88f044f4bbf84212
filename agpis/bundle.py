"""The bundle: a folder with everything inference needs, verified when it is opened.

    manifest.json   what `agpis.bundle_manifest.Manifest` says
    rulebook.yaml   the rulebook the models were trained for
    tokenizer.json  text of the sequence model
    *.onnx          the graphs

A graph may serve several roles: the starter runs ONE image graph for p_primary, p_noncompliant, rules, tokens and
patches. `Bundle.image` runs each distinct graph once. Normalisation is inside the graphs: they take uint8.

BundleError codes: not_found, bad_manifest, format_version, missing_file, checksum, rulebook_mismatch,
graph_signature, unreadable_graph (see docs/errors.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agpis.bundle_manifest import IMAGE_ROLES, Graph, Qualified, Tensor, Threshold, read_manifest
from agpis.errors import BundleError, RulebookError
from agpis.images import Size
from agpis.inputs import Text
from agpis.rulebook import Rulebook, load_rulebook
from agpis.titles import Titles

if TYPE_CHECKING:
    import onnxruntime

STARTER = Path(__file__).parent / "starter"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageOutputs:
    """What the image graphs say of N images; float32, row i is image i."""

    p_primary: FloatArray
    """(N,) the paper's p^primary."""
    p_noncompliant: FloatArray
    """(N,) the paper's p^nc."""
    rules: FloatArray
    """(N, R) probability of each of the bundle's `single_rules`."""
    tokens: FloatArray
    """(N, P, D) input of the sequence graph."""
    patches: FloatArray
    """(N, G*G, E) L2-normalised descriptors of a G x G grid, row-major over the letterboxed input."""
    evidence: FloatArray | None = None
    """(N, F*F) where in the image the non-compliance is seen, row-major over an F x F grid of the letterboxed input,
    F of the graph's own (the starter's: 28, twice `patches`' G): how strongly the local head sees the likeliest rule of
    each image there, or that any rule is broken, where the graph has one score a place. 0 to 1, not calibrated: to be
    compared within an image. None when the bundle gives none."""
    things: FloatArray | None = None
    """(N, L) log ratios, how much likelier than usual the image shows a thing of each line of the manifest's `things`;
    None where it has none."""


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_bundle(path: str | Path | None = None, *, threads: int = 0) -> Bundle:
    """Opens and verifies a bundle; None = the starter inside the package.

    Args:
        threads: threads of each graph; 0 leaves the choice to ONNX Runtime (all cores).

    Raises:
        BundleError: with the code of what is wrong (module docstring).
    """
    return Bundle(Path(path) if path is not None else STARTER, threads=threads)


class Bundle:
    """An opened bundle. Picklable: a worker that receives it opens the folder again."""

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        self.folder, self.threads = folder, threads
        self.manifest = read_manifest(folder)
        self.name = self.manifest.id
        self.k = self.manifest.k
        self.size = Size(width=self.manifest.resize.width, height=self.manifest.resize.height)
        self.thresholds = {name: entry.value for name, entry in self.manifest.thresholds.items()}
        self.calibration = dict(self.manifest.calibration)
        self.rulebook = self._open_rulebook()
        self.classes = self.manifest.rulebook.classes
        self.single_rules = self.manifest.rulebook.single_rules
        self.single_roles = tuple(self.rulebook.rule(rule).role for rule in self.single_rules)
        self.titles = None if self.manifest.things is None else Titles(self.manifest.things.words)
        self.text = self._open_text()
        self._sessions = {name: self._open_graph(name, graph) for name, graph in self.manifest.graphs.items()}
        self._check_roles()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.folder), self.threads)

    # opening

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise BundleError("missing_file", f"{self.folder} lacks {name}, which its manifest names. Export it again.")
        return path

    def _checked(self, name: str, expected: str) -> Path:
        path = self._file(name)
        found = sha256(path)
        if found != expected:
            raise BundleError(
                "checksum",
                f"{path} has sha256 {found[:12]}..., the manifest says {expected[:12]}...: the file was altered or "
                "cut off. Copy the bundle again.",
            )
        return path

    def _open_rulebook(self) -> Rulebook:
        entry = self.manifest.rulebook
        path = self._file(entry.file)
        try:
            rulebook = load_rulebook(path)
        except RulebookError as error:
            raise BundleError("rulebook_mismatch", f"the bundle's rulebook cannot be read: {error}") from error
        for what, found, expected in (
            ("hash", rulebook.hash, entry.hash),
            ("classes", tuple(rulebook.classes), entry.classes),
            ("single_rules", tuple(rulebook.single_rules), entry.single_rules),
        ):
            if found != expected:
                raise BundleError(
                    "rulebook_mismatch",
                    f"{path} has the {what} {found}, the manifest says {expected}: the models were trained for another "
                    "rulebook. Put the original file back, or train and export for the new one.",
                )
        return rulebook

    def _open_text(self) -> Text:
        entry = self.manifest.text
        path = self._checked(entry.file, entry.sha256)
        try:
            return Text(
                path,
                max_title=entry.max_title,
                max_feedback=entry.max_feedback,
                category=entry.category,
                separator=entry.separator,
                end=entry.end,
                pad=entry.pad,
            )
        except Exception as error:  # the tokenizers package raises bare Exception
            raise BundleError("bad_manifest", f"{path} is no tokenizer of this bundle: {error}") from error

    def _open_graph(self, name: str, graph: Graph) -> onnxruntime.InferenceSession:
        import onnxruntime

        path = self._checked(graph.file, graph.sha256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # errors only: its warnings name nodes, which helps nobody here
        # Waiting threads that spin take the cores away from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise BundleError("unreadable_graph", f"ONNX Runtime cannot open {path}: {error}") from error
        for what, found, expected in (
            ("inputs", session.get_inputs(), graph.inputs),
            ("outputs", session.get_outputs(), graph.outputs),
        ):
            signature = tuple(describe(node) for node in found)
            if not _same(signature, expected):
                raise BundleError(
                    "graph_signature",
                    f"graph {name!r} ({path}) has the {what} {_line(signature)}; the manifest says {_line(expected)}. "
                    "Export the bundle again.",
                )
        return session

    def _check_roles(self) -> None:
        roles, graphs = self.manifest.roles, self.manifest.graphs
        for role in IMAGE_ROLES:
            self._need(role, role, graphs[roles[role]].outputs, "output")
            self._need(role, "pixels", graphs[roles[role]].inputs, "input")
        for name in ("tokens", "mask", "ids"):
            self._need("sequence", name, graphs[roles["sequence"]].inputs, "input")
        for name in ("probabilities", "memory"):
            self._need("sequence", name, graphs[roles["sequence"]].outputs, "output")
        for name in ("ids", "memory", "memory_mask", "past"):
            self._need("feedback", name, graphs[roles["feedback"]].inputs, "input")
        for name in ("logits", "present"):
            self._need("feedback", name, graphs[roles["feedback"]].outputs, "output")
        if (stacking := self.manifest.stacking) is not None:
            taken, given = graphs[stacking.graph].inputs, graphs[stacking.graph].outputs
            wide = [tensor.shape[-1] for tensor in taken if tensor.name == "features"]
            if wide != [len(stacking.features)] or "logit" not in [tensor.name for tensor in given]:
                raise BundleError(
                    "graph_signature",
                    f"graph {stacking.graph!r} has the inputs {_line(taken)} and outputs {_line(given)}; stacking "
                    f"needs `features` {len(stacking.features)} wide and `logit`. Fit it again.",
                )
        counts: list[tuple[str, str, Sequence[object]]] = [
            ("rules", "rules", self.single_rules),
            ("sequence", "probabilities", self.classes),
        ]
        if (things := self.manifest.things) is not None:
            self._need("tokens", "things", graphs[roles["tokens"]].outputs, "output")
            counts.append(("tokens", "things", things.words))
        for role, output, names in counts:
            width = next(t.shape[-1] for t in graphs[roles[role]].outputs if t.name == output)
            if width != len(names):
                raise BundleError(
                    "graph_signature",
                    f"output {output!r} of graph {roles[role]!r} is {width} wide; there are {len(names)} names for it.",
                )

    def _need(self, role: str, name: str, tensors: tuple[Tensor, ...], what: str) -> None:
        names = [tensor.name for tensor in tensors]
        if name not in names:
            raise BundleError(
                "graph_signature",
                f"graph {self.manifest.roles[role]!r} serves the role {role!r} but has no {what} {name!r}; "
                f"it has {names}. Export the bundle again.",
            )

    # running

    def image(self, pixels: npt.NDArray[np.uint8]) -> ImageOutputs:
        """Every image role of N letterboxed images; each distinct graph runs once.

        Args:
            pixels: uint8 (N, H, W, 3) with H, W of `size`; see `agpis.inputs.stack`.
        """
        self._check_pixels(pixels)
        roles = self.manifest.roles
        found: dict[str, FloatArray] = {}
        for graph in dict.fromkeys(roles[role] for role in IMAGE_ROLES):
            wanted = [role for role in IMAGE_ROLES if roles[role] == graph]
            if graph == roles["p_noncompliant"] and any(
                tensor.name == "evidence" for tensor in self.manifest.graphs[graph].outputs
            ):
                wanted.append("evidence")
            if graph == roles["tokens"] and self.titles is not None:
                wanted.append("things")
            found.update(zip(wanted, self._sessions[graph].run(wanted, {"pixels": pixels}), strict=True))
        return ImageOutputs(**found)

    def titled(self, title: str, category: str, things: Sequence[FloatArray | None]) -> FloatArray | None:
        """How well N images show what the title names, (N,) of `agpis.titles.Titles.fits`; None where that is not
        known.

        Args:
            things: of each image, (L,) of `ImageOutputs`.
        """
        rows = [row for row in things if row is not None]
        if self.titles is None or not rows or len(rows) < len(things):
            return None
        return self.titles.fits(title, category, np.stack(rows))

    def _check_pixels(self, pixels: npt.NDArray[np.uint8]) -> None:
        expected = (self.size.height, self.size.width, 3)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != expected:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}; the bundle takes uint8 (N, {expected})")

    def embed(self, pixels: npt.NDArray[np.uint8]) -> FloatArray:
        """One feature vector an image, float32 (N, D): the mean of its tokens; for the EdgeBoxes matcher's crops.

        Args:
            pixels: uint8 (N, H, W, 3) with H, W of `size`.
        """
        self._check_pixels(pixels)
        session = self._sessions[self.manifest.roles["tokens"]]
        chunks = (pixels[at : at + 32] for at in range(0, len(pixels), 32))
        return np.concatenate([session.run(["tokens"], {"pixels": chunk})[0].mean(axis=1) for chunk in chunks])

    def sequence(
        self, tokens: FloatArray, title: str, category: str = "", mask: FloatArray | None = None
    ) -> FloatArray:
        """Class probabilities of S sequences of one product, float32 (S, C) in the order of `classes`.

        Fewer images than the bundle's K are masked. Of more, every window of K that keeps the primary (the first
        image) and the order is scored, and the one with the least probability of `qualified` speaks for the sequence.

        Args:
            tokens: float32 (S, K, P, D), any K >= 1.
            mask: float32 (S, K), 0 where an image is to be left out, its place kept; None: all are seen.
        """
        count, images = tokens.shape[:2]
        mask = np.ones((count, images), np.float32) if mask is None else mask
        if images <= self.k:
            return self._score(tokens, title, category, mask)[0]
        windows = [[0, *rest] for rest in combinations(range(1, images), self.k - 1)]
        scores = np.stack([self._score(tokens[:, w], title, category, mask[:, w])[0] for w in windows])
        worst = scores[:, :, self.classes.index("qualified")].argmin(axis=0)  # (S,)
        return np.asarray(scores[worst, np.arange(count)], np.float32)

    def stacked(self, features: FloatArray) -> FloatArray:
        """p_qualified of S sequences (S,), from the features (S, F) that the manifest's `stacking` names."""
        stacking = self.manifest.stacking
        assert stacking is not None
        (logit,) = self._sessions[stacking.graph].run(["logit"], {"features": features})
        shifted = np.asarray(logit, np.float64)[:, 0] / stacking.temperature + stacking.shift
        return np.asarray(1.0 / (1.0 + np.exp(-shifted)), np.float32)

    def feedback(self, tokens: FloatArray, title: str, category: str = "") -> str:
        """What the model would write as feedback: greedy, one token at a time, with a key-value cache.

        Args:
            tokens: float32 (K, P, D); of more than the bundle's K images the worst window is spoken of.
        """
        if len(tokens) > self.k:
            windows = [(0, *rest) for rest in combinations(range(1, len(tokens)), self.k - 1)]
            scores = self._score(np.stack([tokens[list(window)] for window in windows]), title, category)[0]
            tokens = tokens[list(windows[int(scores[:, self.classes.index("qualified")].argmin())])]
        _, memory, memory_mask = self._score(tokens[None], title, category, memory=True)
        graph = self.manifest.roles["feedback"]
        past_shape = next(t.shape for t in self.manifest.graphs[graph].inputs if t.name == "past")
        past = np.zeros([size if isinstance(size, int) else 0 for size in past_shape], dtype=np.float32)
        ids = np.array([self.text.title(title, category)], dtype=np.int64)
        written: list[int] = []
        while len(written) < self.text.max_feedback:
            feed = {"ids": ids, "memory": memory, "memory_mask": memory_mask, "past": past}
            logits, past = self._sessions[graph].run(["logits", "present"], feed)
            token = int(logits[0].argmax())
            if token == self.text.end:
                break
            written.append(token)
            ids = np.array([[token]], dtype=np.int64)
        return self.text.words(written)

    def _score(
        self, tokens: FloatArray, title: str, category: str, shown: FloatArray | None = None, memory: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Probabilities (S, C), and on demand memory (S, M, D) with its mask (S, M), of S sequences of at most k."""
        count, images, patches, width = tokens.shape
        mask = np.zeros((count, self.k), dtype=np.float32)
        mask[:, :images] = 1.0 if shown is None else shown
        if images < self.k:
            padded = np.zeros((count, self.k, patches, width), dtype=np.float32)
            padded[:, :images] = tokens
            tokens = padded
        ids = np.array([self.text.title(title, category)], dtype=np.int64)
        feed = {"tokens": np.ascontiguousarray(tokens, dtype=np.float32), "mask": mask, "ids": ids}
        session = self._sessions[self.manifest.roles["sequence"]]
        if not memory:
            (probabilities,) = session.run(["probabilities"], feed)
            return calibrated(probabilities, self.manifest.qualified), np.zeros((0,), np.float32), mask
        probabilities, states = session.run(["probabilities", "memory"], feed)
        return (
            calibrated(probabilities, self.manifest.qualified),
            states,
            np.repeat(mask, states.shape[1] // self.k, axis=1),
        )


def _reopen(folder: str, threads: int) -> Bundle:
    return open_bundle(folder, threads=threads)


def calibrated(probabilities: FloatArray, qualified: Qualified) -> FloatArray:
    """Class probabilities (S, C), calibrated; the first class is `qualified`."""
    logits = np.log(np.maximum(probabilities, 1e-12)) / qualified.temperature
    logits[:, 0] += qualified.shift
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def describe(node: Any) -> Tensor:
    """An input or output of an ONNX Runtime session as the manifest writes it."""
    dtype = str(node.type).removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else str(size) for size in node.shape)
    return Tensor(name=node.name, dtype=dtype, shape=shape)


def _same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    """Equal up to the names of free dimensions."""

    def plain(tensor: Tensor) -> tuple[object, ...]:
        return tensor.name, tensor.dtype, *(size if isinstance(size, int) else "" for size in tensor.shape)

    return [plain(t) for t in found] == [plain(t) for t in expected]


def _line(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in tensors)


__all__ = [
    "STARTER",
    "Bundle",
    "ImageOutputs",
    "Qualified",
    "Threshold",
    "calibrated",
    "describe",
    "open_bundle",
    "sha256",
]
