"""Verdicts of what stage 1 submits: in the paper (3.4, 4.1) the sequence model is trained on those, here simulated.

    python -m bench.reviews draw --bundle B --source magento [--source ...] --seeds 0 1 2 --out runs/reviews
    agpis train muisc runs/reviews/verdicts.jsonl --base B --set start=B-checkpoints/muisc -o runs/muisc
    agpis export --muisc runs/muisc --base B -o B2
    python -m bench.reviews weigh --bundle B2 --verdicts runs/reviews/verdicts.jsonl

`draw` takes products that the bundle was trained on (with `--hold-out`, those alone: the others are for
`bench.online`), draws raw uploads in the training style, runs stage 1 and has the simulated reviewer judge several
random sequences of each. Half of the uploads are drawn at `HARDER` rates: on products that it was trained on stage 1 is
right more often than on new ones, and of what it lets through little would be wrong. `weigh` fits on the validation
split how p_qualified and the evidence of stage 1 count together (`agpis.weighing`) and writes it into the bundle.

A marketplace's reviews are of products that no model has seen. `draw --new` takes the held-out styles instead, all of
them for validation: of other sources than `bench.online` is to be run on, which refuses them afterwards.

Limit: strangers, wrong titles and faults are ours, as in `bench.online`, which is the test: never on these products,
words, fonts or emblems.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path

import numpy as np

from agpis.bundle_manifest import Weighing, read_manifest, write_manifest
from agpis.data import Decision, Verdict
from agpis.metrics import auc
from agpis.pipeline import Pipeline, Settings
from agpis.replay import replay
from agpis.rulebook import Rulebook
from agpis.samples import Split
from agpis.simulate import Catalogued, Stock, Style, held_out
from agpis.simulate.phrases import feedback
from agpis.simulate.stock import WHOLE
from agpis.verdicts import read_verdicts
from bench.machine import machine
from bench.uploads import RATES, Case, Rates, Shop, review, upload, verdict

HARDER = replace(RATES, mix=(0.60, 0.32, 0.05, 0.03), worse_first=0.5, wrong_title=0.05)
"""More that stage 1 cannot see: other products and colours, wrong titles, a list that begins with a back or detail."""
NEW = "new.jsonl"
"""Verdicts of products that the bundle has not seen."""
WAYS: tuple[tuple[str, Rates, Style], ...] = (
    ("at RATES", RATES, Style.train()),
    ("at HARDER", HARDER, replace(Style.train(), strength=(0.0, 0.5))),  # the fainter half of the faults
)
"""How uploads are drawn, by turns."""
RULE = {
    "copy": "duplicate",
    "other_product": "different_product",
    "other_colour": "different_colour",
    "title": "title_mismatch",
}
"""Reason of the reviewer -> rule; a fault's is its kind, the primary's depends on what follows."""


def shop_of(folder: Path, hold_out: float, new: bool = False) -> Shop:
    """A shop without the styles that the bundle was not trained on, or (`new`) with those alone, as products and as
    strangers."""
    shop = Shop(folder)
    if hold_out:
        shop.products = [product for product in shop.products if held_out(product, hold_out) == new]
        shop.uploads = [product for product in shop.uploads if held_out(product, hold_out) == new]
        shop.stock = Stock(shop.products)
    return shop


def split_of(product: Catalogued, hold_out: float, validation: float) -> Split:
    """`validation` for this share of the styles that the bundle was trained on, else `train`."""
    return "validation" if held_out(product, hold_out + validation * (1.0 - hold_out)) else "train"


def blame(case: Case, sequence: Sequence[str]) -> list[tuple[str, int | None]]:
    """Broken rules with the image to blame, in the order of `bench.uploads.REASONS`; none: the sequence is right."""
    shown = [case.truth[uri] for uri in sequence]
    found: list[tuple[str, int | None]] = []
    for reason in review(case, sequence):
        index: int | None = None
        if reason == "fault":
            index = next(i for i, truth in enumerate(shown) if truth.wrong == "fault")
        elif reason == "copy":
            index = next(i for i, truth in enumerate(shown) if truth.photo in {t.photo for t in shown[:i]})
        elif reason in ("other_product", "other_colour"):
            index = next(i for i, truth in enumerate(shown) if truth.wrong == reason)
        elif reason == "primary":
            index = 0
            later = any(truth.view in WHOLE and not truth.wrong for truth in shown[1:])
            found.append(("wrong_order" if later else "primary_incomplete", index))
            continue
        found.append((shown[index].kind if reason == "fault" and index is not None else RULE[reason], index))
    return found


def drawn(decision: Decision, k: int, count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """The decision's sequence and others that random choice could have made, `count` in all where there are so many."""
    if not decision.sequence:
        return []
    left = [c.uri for c in decision.candidates if c.outcome in ("selected", "spare")]
    others = [(decision.sequence[0], *rest) for rest in permutations(left, k - 1)]
    others.remove(decision.sequence)
    return [decision.sequence, *(others[i] for i in rng.permutation(len(others))[: count - 1])]


class Files:
    """Pictures of the uploads on disk, under `images/` of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, case: Case, number: int) -> dict[str, str]:
        """Uri of the case -> uri relative to the folder. A merchant's own picture is written once."""
        found = {}
        source = case.key.split("/")[0]
        for image in case.product.images:
            own = image.data is None
            uri = f"images/{source}/{image.uri}" if own else f"images/planted/{number:06d}-{image.uri}"
            path = self.folder / uri
            path.parent.mkdir(parents=True, exist_ok=True)
            if image.data is not None:
                path.write_bytes(image.data)
            elif not path.exists():
                path.write_bytes(Path(image.location).read_bytes())
            found[image.uri] = uri
        return found


def verdicts_of(
    case: Case,
    sequences: Sequence[tuple[str, ...]],
    uris: dict[str, str],
    rulebook: Rulebook,
    *,
    errors: bool,
    split: str,
    bundle: str,
) -> Iterator[tuple[Verdict, tuple[str, ...]]]:
    """What the reviewer says of each sequence, and the true reasons to reject it.

    Args:
        uris: see `Files.put`.
        errors: he rejects and accepts wrongly at the stated rates; a wrong reject names no rule.
    """
    known = set(rulebook.classes)
    for number, sequence in enumerate(sequences):
        rng = np.random.default_rng([case.seed, number, len(case.truth)])
        reasons = review(case, sequence)
        rejected = verdict(case, reasons) if errors else bool(reasons)
        broken = [(rule, index) for rule, index in blame(case, sequence) if rule in known] if rejected else []
        rule, at = broken[0] if broken else ("", None)
        yield (
            Verdict(
                sku=case.key,
                title=case.product.title,
                category=case.product.category,
                sequence=tuple(uris[uri] for uri in sequence),
                candidates=tuple(uris[image.uri] for image in case.product.images),
                accepted=not rejected,
                rules=tuple(dict.fromkeys(name for name, _ in broken)),
                image_index=at,
                feedback=feedback(rulebook.rule(rule), rng, index=at) if rule else "",
                reviewer="simulated",
                bundle=bundle,
                split=split,
            ),
            reasons,
        )


def draw(
    bundle: str | None,
    shops: Sequence[Shop],
    seeds: Sequence[int],
    out: Path,
    *,
    sequences: int = 5,
    validation: float = 0.25,
    hold_out: float = 0.0,
    errors: bool = True,
) -> Path:
    """Writes `out`/verdicts.jsonl (or `NEW`) and the pictures; prints what it holds. Returns the path of the verdicts.

    Args:
        sequences: of one upload, the random ones that stage 1 could have submitted.
        validation: share of the styles for the validation split; colours of one style stay on one side.
        hold_out: of the bundle's training; the shops are without those styles already.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    files, path, begin = Files(out), out / (NEW if validation == 1.0 else "verdicts.jsonl"), time.monotonic()
    counts = {name: Counter[str]() for name in (*(name for name, *_ in WAYS), "train", "validation")}
    statuses: Counter[str] = Counter()
    number = 0
    opened, rulebook = Pipeline(bundle).open()
    with path.open("w", encoding="utf-8") as lines:
        for turn, seed in enumerate(seeds):
            way, rates, style = WAYS[turn % len(WAYS)]
            products = {f"{p.source}/{p.sku}": p for shop in shops for p in shop.uploads}
            cases = [upload(p, shop, seed, rates=rates, style=style) for shop in shops for p in shop.uploads]
            for k in sorted({case.k for case in cases}):
                part = [case for case in cases if case.k == k]
                settings = Settings(images=k, search="random", threshold=0.0, seed=seed, strangers="weigh")
                decisions = Pipeline(bundle, settings)(case.product for case in part)
                for case, decision in zip(part, decisions, strict=True):
                    statuses[decision.status] += 1
                    chosen = drawn(decision, k, sequences, np.random.default_rng([seed, number]))
                    uris = files.put(case, number) if chosen else {}
                    number += 1
                    split = split_of(products[case.key], hold_out, validation)
                    judged = verdicts_of(case, chosen, uris, rulebook, errors=errors, split=split, bundle=opened.name)
                    for place, (one, reasons) in enumerate(judged):
                        lines.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
                        named = ("all", *reasons, *(() if one.accepted else ("rejected",)))
                        counts[split].update(named)
                        if place == 0:
                            counts[way].update(named)
            print(f"seed {seed}: {number} uploads after {time.monotonic() - begin:.0f} s", flush=True)
    show(counts, statuses)
    return path


def show(counts: dict[str, Counter[str]], statuses: Counter[str]) -> None:
    """Sequences, share rejected, and share with each true reason; by rates of the first sequence of each upload alone,
    which is what stage 1 submits, (a) of `bench.online`."""
    print(f"stage 1: {dict(statuses)}")
    for name, found in counts.items():
        shares = (f"{reason} {n / found['all']:.1%}" for reason, n in found.most_common() if reason != "all")
        print(f"{name:10s} {found['all']:6d} sequences  " + ", ".join(shares))


def weigh(bundle: Path, verdicts: Path, split: str, prior: float | None) -> Weighing:
    """Fits the weights of p_qualified's evidence on one split of the verdicts, prints what they do and writes them into
    the bundle's manifest."""
    read = [v for v in read_verdicts(verdicts) if isinstance(v, Verdict) and v.split == split]
    begin = time.monotonic()
    shops = ("new styles of " if verdicts.name == NEW else "") + ", ".join(sorted({v.sku.split("/")[0] for v in read}))
    found = replay(bundle, read, settings=Settings(threshold=0.0, strangers="weigh"))
    print(f"{len(found.accepted)} sequences, {found.left_out} left out, {time.monotonic() - begin:.0f} s")
    weighing, outside = found.fit(prior=prior, data=f"{split} split of {verdicts.name}, {shops}")
    print(weighing)
    log_odds, kin, apart = found.features[:, :3].T
    _, first = np.unique(found.uploads, return_index=True)
    print(f"{'first of each upload':26s} rejected {1.0 - found.accepted[first].mean():.1%}")
    for name, score in (
        ("sequence model", log_odds),
        ("p_qualified, multiplied", np.exp(kin + apart) / (1.0 + np.exp(-log_odds))),
        ("the same with caution", found.plain),
        ("weighing, cross-validated", outside),
    ):
        best = [start + int(score[found.uploads == found.uploads[start]].argmax()) for start in first]
        print(
            f"{name:26s} AUC {auc(score, found.accepted):.3f}, of the first ones "
            f"{auc(score[first], found.accepted[first]):.3f}; best of each upload rejected "
            f"{1.0 - found.accepted[best].mean():.1%}"
        )
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"weighing": weighing}))
    return weighing


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("draw", help="uploads through stage 1, judged")
    one.add_argument("--data", type=Path, default=Path("../shared/data"))
    one.add_argument("--source", action="append", required=True, help="catalogue that the bundle was trained on")
    one.add_argument("--bundle", default=None, help="folder of a bundle; the starter if left out")
    one.add_argument("--seeds", type=int, nargs="+", default=list(range(12)), help="one upload of each product a seed")
    one.add_argument("--sequences", type=int, default=5, help="of an upload")
    one.add_argument("--validation", type=float, default=0.25, help="share of the styles")
    one.add_argument("--new", action="store_true", help="the styles that were held out, all for validation")
    one.add_argument("--faultless", action="store_true", help="a reviewer without errors")
    one.add_argument("--out", type=Path, required=True)
    two = commands.add_parser("weigh", help="weights of p_qualified's evidence, into the bundle")
    two.add_argument("--bundle", type=Path, required=True)
    two.add_argument("--verdicts", type=Path, required=True)
    two.add_argument("--split", default="validation", help="which the sequence model was not trained on")
    two.add_argument("--prior", type=float, default=None, help="share accepted where it will be used")
    options = parser.parse_args(arguments)
    if options.command == "weigh":
        weigh(options.bundle, options.verdicts, options.split, options.prior)
        return
    bundle, _ = Pipeline(options.bundle).open()
    foreign = sorted(set(options.source) - set(bundle.manifest.trained_on))
    if foreign:
        raise SystemExit(f"{bundle.name} was not trained on {', '.join(foreign)}; keep those for bench.online.")
    hold_out = bundle.manifest.hold_out
    if options.new and not hold_out:
        raise SystemExit(f"{bundle.name} was trained without --hold-out: it has seen every style.")
    shops = [shop_of(options.data / source, hold_out, options.new) for source in options.source]
    print(f"machine: {machine()}\nbundle: {bundle.name}, hold-out {hold_out:.0%}, sources {', '.join(options.source)}")
    path = draw(
        options.bundle,
        shops,
        options.seeds,
        options.out,
        sequences=options.sequences,
        validation=1.0 if options.new else options.validation,
        hold_out=hold_out,
        errors=not options.faultless,
    )
    print(path)


if __name__ == "__main__":
    main()
