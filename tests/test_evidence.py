"""evidence.py and what the pipeline makes of it: where in an image, and which image of a sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agpis.bundle import open_bundle


def test_an_image_that_is_masked_is_not_seen(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(2, bundle.k, *_token_shape(tiny_bundle))).astype(np.float32)
    mask = np.ones((2, bundle.k), np.float32)
    mask[:, -1] = 0.0
    without = bundle.sequence(tokens[:, :-1], "Spotted thing")
    np.testing.assert_allclose(bundle.sequence(tokens, "Spotted thing", mask=mask), without, atol=1e-5)
    other = tokens.copy()
    other[:, 1] = rng.normal(size=other[:, 1].shape)
    mask = np.ones((2, bundle.k), np.float32)
    mask[:, 1] = 0.0
    masked = bundle.sequence(tokens, "Spotted thing", mask=mask)
    np.testing.assert_allclose(bundle.sequence(other, "Spotted thing", mask=mask), masked, atol=1e-5)
    longer = np.concatenate([tokens, tokens[:, :1]], axis=1)
    shown = np.ones((2, bundle.k + 1), np.float32)
    np.testing.assert_array_equal(
        bundle.sequence(longer, "Spotted thing", mask=shown), bundle.sequence(longer, "Spotted thing")
    )


def _token_shape(folder: Path) -> tuple[int, int]:
    outputs = next(g for g in open_bundle(folder).manifest.graphs.values() if g.file == "image.onnx").outputs
    _, patches, width = next(t.shape for t in outputs if t.name == "tokens")
    return int(patches), int(width)
