"""Boosted trees, fitted by scikit-learn and written as an ONNX graph: the model of `agpis.stacking`.

Needs the extra `train`.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agpis.bundle import Bundle, describe, open_bundle, sha256
from agpis.bundle_manifest import Graph, Stacking, read_manifest, write_manifest
from agpis.errors import MissingExtra
from agpis.stacking import FEATURES

OPSET = 3
"""Of the domain ai.onnx.ml, the first with trees that take float32 rows of any number."""


OWN = 0.5
"""Part of the sequence model's own log odds that is added to what the trees say: on faults of one image it is the
better witness. Of 0, 0.15, 0.3, 0.5 and 1 on six sources, each left out in turn, AUC 0.846, 0.848, 0.849, 0.850,
0.849."""


@dataclass(frozen=True, slots=True)
class Trees:
    """scikit-learn's gradient boosting, and what is added to it."""

    model: Any

    def logits(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Log odds (n,) that sequences with features (n, F) are qualified."""
        found = self.model.decision_function(rows) + OWN * rows[:, FEATURES.index("qualified")]
        return np.asarray(found, np.float64)


def fit(rows: npt.NDArray[np.float32], accepted: npt.NDArray[np.bool_], *, seed: int) -> Trees:
    """Stochastic gradient boosting (Friedman 2002) on features (n, F) and what is qualified (n,).

    Raises:
        MissingExtra: scikit-learn is not installed.
        ValueError: all sequences are of one kind.
    """
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise MissingExtra("scikit-learn", "train", "Fitting of boosted trees") from error
    if accepted.all() or not accepted.any():
        raise ValueError(f"found {int(accepted.sum())} qualified of {len(accepted)} sequences; both kinds are needed")
    model = GradientBoostingClassifier(
        n_estimators=300,
        learning_rate=0.04,
        max_depth=3,
        min_samples_leaf=60,
        subsample=0.5,
        max_features=0.2,
        random_state=seed,
    )
    return Trees(model.fit(rows, accepted))


def to_onnx(trees: Trees) -> bytes:
    """`Trees.logits` as an ONNX graph: `features` float32 (S, F) -> `logit` float32 (S, 1).

    Raises MissingExtra where onnx is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise MissingExtra("onnx", "train", "Writing boosted trees as a graph") from error
    model, branches, leaves = trees.model, _Table(), _Table()
    for number, (estimator,) in enumerate(model.estimators_):
        tree = estimator.tree_
        for node in range(tree.node_count):
            if tree.children_left[node] < 0:
                branches.add(number, node, featureids=0, values=0.0, modes="LEAF", truenodeids=0, falsenodeids=0)
                leaves.add(number, node, ids=0, weights=float(model.learning_rate * tree.value[node, 0, 0]))
            else:
                branches.add(
                    number,
                    node,
                    featureids=int(tree.feature[node]),
                    values=_down(float(tree.threshold[node])),
                    modes="BRANCH_LEQ",
                    truenodeids=int(tree.children_left[node]),
                    falsenodeids=int(tree.children_right[node]),
                )
    (share,) = np.asarray(model.init_.class_prior_)[1:]
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor",
            ["features"],
            ["grown"],
            domain="ai.onnx.ml",
            n_targets=1,
            base_values=[float(np.log(share / (1.0 - share)))],
            **branches.named("nodes"),
            **leaves.named("target"),
        ),
        helper.make_node("Gather", ["features", "column"], ["own"], axis=1),
        helper.make_node("Mul", ["own", "part"], ["added"]),
        helper.make_node("Add", ["grown", "added"], ["logit"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stacking",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["S", len(FEATURES)])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["S", 1])],
        [
            helper.make_tensor("column", TensorProto.INT64, [1], [FEATURES.index("qualified")]),
            helper.make_tensor("part", TensorProto.FLOAT, [], [OWN]),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    checker.check_model(made)
    return bytes(made.SerializeToString())


class _Table:
    """Attributes of a TreeEnsemble operator: one list a name, one entry a node."""

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {}

    def add(self, tree: int, node: int, **values: Any) -> None:
        for name, value in {"treeids": tree, "nodeids": node, **values}.items():
            self.columns.setdefault(name, []).append(value)

    def named(self, prefix: str) -> dict[str, list[Any]]:
        return {f"{prefix}_{name}": values for name, values in self.columns.items()}


def _down(threshold: float) -> float:
    """The largest float32 that is not above it: rows are float32, and go left where they are not above it."""
    near = float(np.float32(threshold))  # two floats: numpy would round the threshold to compare it with a float32
    return near if near <= threshold else float(np.nextafter(np.float32(near), np.float32(-np.inf)))


def lent(bundle: Bundle, graph: bytes, stacking: Stacking) -> Bundle:
    """The bundle with these trees, in a folder of its own that goes with it; the given one stays as it is."""
    scratch = tempfile.TemporaryDirectory()
    folder = Path(scratch.name) / bundle.folder.name
    shutil.copytree(bundle.folder, folder)
    found = put(folder, graph, stacking)
    weakref.finalize(found, scratch.cleanup)
    return found


def put(folder: Path, graph: bytes, stacking: Stacking) -> Bundle:
    """Writes the graph of `to_onnx` and its entry into a bundle, in place of those it has; the bundle, opened again.

    Raises BundleError where `folder` is no sound bundle, or the graph does not fit the entry.
    """
    import onnxruntime

    manifest = read_manifest(folder)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    path = folder / f"{stacking.graph}.onnx"
    path.write_bytes(graph)
    entry = Graph(
        file=path.name,
        sha256=sha256(path),
        inputs=tuple(describe(node) for node in session.get_inputs()),
        outputs=tuple(describe(node) for node in session.get_outputs()),
    )
    write_manifest(
        folder,
        manifest.model_copy(update={"graphs": {**manifest.graphs, stacking.graph: entry}, "stacking": stacking}),
    )
    return open_bundle(folder)
