"""What a starter has fitted on sources that it was not trained on: its rules' calibration, and how its paths weigh.

On the sources that a model was trained on it is too sure, and its learned path too loud. `python -m agpis.recipe rules`
and `... paths` print the fits, of which `mean_of` several goes into a bundle that is trained on all sources.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agpis.assemble import assemble, open_model
from agpis.bundle import open_bundle
from agpis.calibration import fit_rules
from agpis.checkpoint import Checkpoint, load_weights, write_checkpoint
from agpis.errors import TrainingError
from agpis.images import Size, letterbox
from agpis.lessons import sequence_lessons
from agpis.listings import possible
from agpis.models.muisc import SequenceModel
from agpis.models.single import ImageConfig, ImageModel
from agpis.rulebook import Rulebook, load_rulebook
from agpis.simulate import SHARES, Catalogued, Stock, Style, images
from agpis.train_image import new_image_model
from agpis.two_paths import Paths, fit_paths, parts_of, weigh


def calibrate_rules(
    checkpoint: Path, products: Sequence[Catalogued], *, seed: int = 0, count: int = 3000
) -> dict[str, tuple[float, float]]:
    """Rule -> scale and shift of the image model's logits, on pictures of products that it was not trained on.

    Args:
        checkpoint: folder of the image model.
        products: of sources, or of styles, that were left out.
        count: pictures, drawn as those that it was trained on are.
    """
    rulebook = load_rulebook("default")
    config = ImageConfig(**json.loads((checkpoint / "config.json").read_text("utf-8")))
    image = new_image_model(config, pretrained=False)
    load_weights(checkpoint, image)
    image.eval()
    frame, order = Size(config.size, config.size), {rule: at for at, rule in enumerate(rulebook.single_rules)}
    logits, broken, known = [], np.zeros((count, len(order)), bool), np.ones((count, len(order)), bool)
    waiting: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    drawn = images(Stock(list(products)), rulebook, np.random.default_rng(seed), Style.train(), count)
    for row, sample in enumerate(drawn):
        waiting.append(letterbox(sample.pixels, frame))
        broken[row, [order[rule] for rule in sample.rules]] = True
        known[row, [order[rule] for rule in sample.unknown if rule in order]] = False
        if len(waiting) == 64 or row + 1 == count:
            with torch.inference_mode():
                logits.append(image(torch.from_numpy(np.stack(waiting)))["raw"].numpy())
            waiting.clear()
    fitted = fit_rules(np.concatenate(logits), broken, known)
    return {rule: (round(float(fitted[at, 0]), 4), round(float(fitted[at, 1]), 4)) for rule, at in order.items()}


def set_rules(image: ImageModel, rulebook: Rulebook, rules: Mapping[str, tuple[float, float]]) -> None:
    """Puts scale and shift of the rules' logits into the image model. Raises TrainingError for foreign rules."""
    names = rulebook.single_rules
    if set(rules) - set(names):
        raise TrainingError("bad_config", f"rules names {sorted(set(rules) - set(names))}; allowed: {sorted(names)}.")
    with torch.no_grad():
        for at, name in enumerate(names):
            if name in rules:
                image.rule_scale[at], image.rule_shift[at] = rules[name]


def find_paths(
    folder: Path, checkpoint: Path, products: Sequence[Catalogued], *, seed: int = 0, count: int = 800
) -> Paths:
    """How the paths of a starter's sequence model weigh, on products that the starter was not trained on.

    Sequences are drawn in the paper's shares, in the training style.

    Args:
        folder: the bundle.
        checkpoint: folder of its sequence model.
        products: of sources, or of styles, that were left out.
        count: sequences.

    Raises:
        TrainingError: the checkpoint is not the bundle's, or was weighed already.
    """
    bundle = open_bundle(folder)
    module, _ = _not_weighed(checkpoint)
    size, stock = bundle.size.width, Stock(list(products))
    lessons = sequence_lessons(
        stock,
        possible(bundle.rulebook, stock),
        np.random.default_rng(seed),
        Style.train(),
        lambda pixels: bundle.image(pixels).tokens,
        count=count,
        shares=SHARES,
        size=size,
        k_range=(2, bundle.k),
    )
    muisc, texts = module.muisc, bundle.text
    parts = []
    with torch.inference_mode():
        for row in range(count):
            tokens = torch.from_numpy(lessons.tokens[row : row + 1]).float()
            mask = torch.from_numpy(lessons.mask[row : row + 1])
            title = texts.title(lessons.titles[row], lessons.categories[row])
            ids, separator = torch.tensor([title]), torch.tensor([len(title) - 1])
            parts.append(parts_of(muisc, tokens, mask, ids, separator))
    return fit_paths(torch.cat(parts), torch.from_numpy(lessons.labels == 0))


def weigh_starter(folder: Path, checkpoint: Path, paths: Paths) -> None:
    """Writes the weights of the paths into a starter's checkpoint and bundle.

    Raises:
        TrainingError: the checkpoint is not the bundle's, or was weighed already.
    """
    module, found = _not_weighed(checkpoint)
    weigh(module.muisc, paths)
    told = asdict(paths)
    weighed = replace(found, metrics={**found.metrics, "paths": told}, training={**found.training, "paths": told})
    write_checkpoint(checkpoint, weighed, module)
    assemble(folder, bundle_id=open_bundle(folder).name, muisc=checkpoint, base=folder)


def _not_weighed(checkpoint: Path) -> tuple[SequenceModel, Checkpoint]:
    module, found = open_model(checkpoint, "muisc")
    assert isinstance(module, SequenceModel)
    if found.metrics.get("paths"):
        raise TrainingError("bad_config", f"{checkpoint} is weighed already: {found.metrics['paths']}.")
    return module, found


def mean_of(texts: Sequence[str]) -> dict[str, Any]:
    """The mean of several JSON objects of numbers, or of lists of numbers, with the same keys.

    Raises TrainingError where the keys differ.
    """
    found: list[dict[str, Any]] = [json.loads(text) for text in texts]
    if any(set(each) != set(found[0]) for each in found):
        raise TrainingError("bad_config", f"files to be averaged have the keys {[sorted(each) for each in found]}.")
    return {key: np.mean([each[key] for each in found], axis=0).tolist() for key in found[0]}
