"""The whole loop in simulation: generate, review, export, renew, generate again; the reject rate by round.

    python -m bench.loop --bundle runs/s4/F2 --source magento --source saleor --out runs/loop --plot docs/loop.png

Every round has uploads of its own: merchants' raw uploads (`bench.uploads`) of two thirds of the styles go through
`agpis generate` with the current bundle, which chooses a sequence and submits all of them; a simulated reviewer, who
knows what is wrong with each candidate and errs at stated rates, judges `--sequences` of them over HTTP on the review
pages (`--via store`: in the store itself); the store's verdicts of all rounds so far are exported, `agpis renew` makes
the next bundle and promotes it where it is better.

The reject rate is that of products never reviewed: of the last third of the styles, which no reviewer ever sees and
every bundle decides anew (paired). That of the reviewed sequences is stated besides; from the second round on their
products were reviewed before, in other uploads. With --disjoint each round has styles of its own, and so few of them
that those held out of training can hardly show that a bundle is better. Uploads to review are drawn in the training
style, those of the set in the test style: words, fonts and emblems that no training has seen. Colours of one style stay
on one side. All intervals are 95 %, bootstrapped over products.

Limits: an upload's candidates and faults are drawn by us, and a product is uploaded many times over (`--sequences` are
more than there are products): the reviews are fewer products' than a marketplace's would be.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from agpis.data import Decision
from agpis.engine import Options, generate
from agpis.exchange import export_verdicts, write_verdicts
from agpis.metrics import Interval, Resample, mean_statistic, threshold_for_withheld
from agpis.output_folder import open_output
from agpis.pipeline import Pipeline, Settings
from agpis.records import Given, Query
from agpis.renew import Head, Promote, Renewal, heads, renew
from agpis.rulebook import Rulebook
from agpis.simulate import Catalogued, Style, held_out
from agpis.simulate.phrases import feedback
from agpis.simulate.stock import WHOLE
from agpis.store import Store, open_store
from bench.machine import machine
from bench.reviews import Files, blame
from bench.uploads import RATES, Case, Shop, review, upload, verdict

FRESH = 1 / 3
"""Share of the styles that no reviewer sees."""
KEPT = 0.9
"""Of the sequences, those that the bundle is surest of, for the second figure of a round."""
CORRECTED = 0.3
"""Of the rejected sequences of a product that has a right one, those that the reviewer puts right."""
SEED = 1 << 20
"""Seeds of the uploads that nobody reviews start here."""
Via = Literal["store", "http"]


# Products and uploads ------------------------------------------------------------------------------------------------


def group_of(product: Catalogued, groups: int, seed: int) -> int:
    """Group of a product's style, from 1 to `groups`; 0: never reviewed."""
    style = f"{product.source}/{product.style or product.sku}"
    at = zlib.crc32(f"{seed}/{style}".encode()) / 2**32
    return 0 if at < FRESH else 1 + min(groups - 1, int((at - FRESH) / (1.0 - FRESH) * groups))


class Uploads:
    """Cases as catalogues on disk, each upload a sku of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = Files(folder)
        self.cases: dict[str, Case] = {}
        """By sku."""

    def write(self, name: str, cases: Sequence[Case]) -> dict[int, Path]:
        """A catalogue for each K; returns their files."""
        lines: dict[int, list[str]] = {}
        for case in cases:
            sku = f"{case.key}@{case.seed}"
            uris = self.files.put(case, len(self.cases))
            self.cases[sku] = case
            row = {"sku": sku, "title": case.product.title, "category": case.product.category}
            images = [uris[image.uri] for image in case.product.images]
            lines.setdefault(case.k, []).append(json.dumps({**row, "images": images}, ensure_ascii=False) + "\n")
        paths = {}
        for k, rows in sorted(lines.items()):
            paths[k] = self.folder / f"{name}-k{k}.jsonl"
            paths[k].write_text("".join(rows), encoding="utf-8")
        return paths


def decided(catalogues: dict[int, Path], bundle: Path | None, out: Path) -> list[Path]:
    """`agpis generate` on each catalogue, everything submitted; returns the output folders."""
    folders = []
    for k, path in catalogues.items():
        settings = Settings(images=k, threshold=0.0)
        options = Options(bundle=None if bundle is None else str(bundle), settings=settings, report=False)
        folders.append(generate(str(path), out / path.stem, options).folder)
    return folders


# The reviewer --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What the reviewer says of one sequence; images by their place among the candidates."""

    accepted: bool
    rules: tuple[str, ...] = ()
    photo: int | None = None
    feedback: str = ""
    corrected: tuple[int, ...] = ()


def judged(case: Case, sequence: Sequence[int], rulebook: Rulebook) -> Said:
    """The simulated reviewer's verdict on candidates of a case, by their places."""
    uris = [image.uri for image in case.product.images]
    shown = [uris[place] for place in sequence]
    rng = np.random.default_rng([case.seed, zlib.crc32(case.key.encode())])
    if not verdict(case, review(case, shown)):
        return Said(True)
    broken = [(rule, index) for rule, index in blame(case, shown) if rule in rulebook]
    right = correction(case) if rng.random() < CORRECTED else ()
    corrected = tuple(uris.index(uri) for uri in right)
    if not broken:  # a wrong reject names nothing
        return Said(False)
    rule, at = broken[0]
    return Said(
        False,
        rules=tuple(dict.fromkeys(name for name, _ in broken)),
        photo=None if at is None else sequence[at],
        feedback=feedback(rulebook.rule(rule), rng, index=at),
        corrected=corrected if list(corrected) != list(sequence) else (),
    )


def correction(case: Case) -> tuple[str, ...]:
    """A right sequence of the case, () where there is none."""
    right: dict[str, str] = {}
    for uri, truth in case.truth.items():
        if not truth.wrong:
            right.setdefault(truth.photo, uri)
    chosen = sorted(right.values(), key=lambda uri: case.truth[uri].view not in WHOLE)[: case.k]
    return tuple(chosen) if len(chosen) == case.k and not review(case, chosen) else ()


def review_in_store(store: Store, cases: dict[str, Case], rulebook: Rulebook, count: int) -> list[tuple[str, bool]]:
    """Judges open decisions; returns sku and whether it was rejected."""
    done: list[tuple[str, bool]] = []
    while len(done) < count and (items := store.lease("simulated", Query())):
        (item,) = items
        case = cases[item.decision.sku]
        uris = [candidate.uri for candidate in item.decision.candidates]
        sequence = [uris.index(uri) for uri in item.decision.sequence]
        said = judged(case, sequence, rulebook)
        given = Given(
            key=str(uuid.uuid4()),
            decision=item.id,
            reviewer="simulated",
            accepted=said.accepted,
            rules=said.rules,
            image_index=None if said.photo is None else sequence.index(said.photo),
            feedback=said.feedback,
            corrected=tuple(uris[place] for place in said.corrected),
        )
        store.give(given)
        done.append((item.decision.sku, not said.accepted))
    return done


@contextmanager
def served(store: Store, rulebook: Rulebook) -> Iterator[httpx.Client]:
    """The review pages on a free port of this machine, and a browser's session there."""
    import socket

    import uvicorn

    from agpis.review import make_app
    from agpis.review_desk import Options as Pages

    listener = socket.create_server(("127.0.0.1", 0))
    app = make_app(store, rulebook, Pages(open=True, reviewer="simulated"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=base, follow_redirects=True, timeout=60.0) as browser:
            browser.get("/queue").raise_for_status()
            browser.headers["X-CSRF"] = browser.get("/api/session").raise_for_status().json()["csrf"]
            yield browser
    finally:
        server.should_exit = True
        thread.join()


def review_over_http(
    browser: httpx.Client, cases: dict[str, Case], rulebook: Rulebook, count: int
) -> list[tuple[str, bool]]:
    """The same over the pages' own calls; places among the candidates are the photos' numbers."""
    done: list[tuple[str, bool]] = []
    while len(done) < count:
        answer = browser.post("/api/lease", json={"count": 1}).raise_for_status().json()
        if not answer["items"]:
            break
        (item,) = answer["items"]
        said = judged(cases[item["sku"]], item["sequence"], rulebook)
        body: dict[str, Any] = {"key": str(uuid.uuid4()), "decision": item["id"], "v": item["v"]}
        body |= {"accepted": said.accepted, "rules": said.rules, "photo": said.photo, "feedback": said.feedback}
        browser.post("/api/verdict", json={**body, "corrected": said.corrected}).raise_for_status()
        done.append((item["sku"], not said.accepted))
    return done


# Figures -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fresh:
    """A bundle on the uploads that nobody reviews, all of them, in their order."""

    p: NDArray[np.float64]
    """(n,) p_qualified; -1 where there is no sequence."""
    rejected: NDArray[np.bool_]
    """(n,)"""
    keys: tuple[str, ...]
    reasons: dict[str, int]
    """Sequences with each of `bench.uploads.REASONS`, whatever the reviewer says."""

    @classmethod
    def of(cls, folders: Sequence[Path], cases: dict[str, Case]) -> Fresh:
        found: dict[str, Decision] = {d.sku: d for folder in folders for d in open_output(folder).decisions()}
        p, rejected, reasons = [], [], Counter[str]()
        for sku in sorted(found):
            decision, case = found[sku], cases[sku]
            uris = [candidate.uri for candidate in decision.candidates]
            names = [image.uri for image in case.product.images]
            shown = [names[uris.index(uri)] for uri in decision.sequence]
            p.append(-1.0 if not shown or decision.p_qualified is None else decision.p_qualified)
            wrong = review(case, shown) if shown else ()
            reasons.update(wrong)
            rejected.append(bool(shown) and verdict(case, wrong))
        return cls(np.array(p), np.array(rejected), tuple(cases[sku].key for sku in sorted(found)), dict(reasons))

    def submitted(self, kept: float) -> NDArray[np.bool_]:
        """The `kept` share of the sequences that the bundle is surest of."""
        there = self.p >= 0.0
        return there & (self.p >= threshold_for_withheld(self.p[there], 1.0 - kept)) if there.any() else there

    def rate(self, kept: float) -> Interval:
        return self._resample().interval(mean_statistic(self.rejected, self.submitted(kept)))

    def fewer(self, first: Fresh, kept: float) -> Interval:
        """How much lower the rate is than the first bundle's, paired."""
        rates = (mean_statistic(one.rejected, one.submitted(kept)) for one in (self, first))
        return self._resample().paired(*rates).difference

    def _resample(self) -> Resample:
        return Resample(len(self.p), self.keys)


def reviewed_rate(done: Sequence[tuple[str, bool]], cases: dict[str, Case]) -> Interval:
    """Reject rate of reviewed sequences."""
    rejected = np.array([bad for _, bad in done])
    return Resample(len(done), [cases[sku].key for sku, _ in done]).interval(mean_statistic(rejected))


def row_of(
    number: int, bundle: str, fresh: Fresh, first: Fresh, own: Interval | None, more: dict[str, Any]
) -> dict[str, Any]:
    """One round as it is printed, plotted and written down."""
    share = f"{KEPT:.0%}"
    return {
        "round": number,
        "bundle": bundle,
        "coverage": float((fresh.p >= 0.0).mean()),
        "fresh": asdict(fresh.rate(1.0)),
        f"fresh, {share} surest": asdict(fresh.rate(KEPT)),
        "fresh, against the first": asdict(fresh.fewer(first, 1.0)),
        f"fresh, {share} surest, against the first": asdict(fresh.fewer(first, KEPT)),
        "fresh, sequences with": fresh.reasons,
        "reviewed": None if own is None else asdict(own),
        **more,
    }


def show(row: dict[str, Any]) -> None:
    """Prints a round."""
    print(f"\nround {row['round']}: bundle {row['bundle']}, sequence for {row['coverage']:.1%} of the uploads")
    for name, value in row.items():
        if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
            print(f"  {name:40s} {value['value']:7.1%} [{value['low']:.1%}, {value['high']:.1%}]")
    print(f"  {'fresh, sequences with':40s} " + ", ".join(f"{k} {n}" for k, n in row["fresh, sequences with"].items()))
    if row.get("renewal"):
        print(f"  renewal: {row['renewal']}")


def plot(rows: Sequence[dict[str, Any]], path: Path, caption: str) -> None:
    """The reject rate by round, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), dpi=150)
    for name, mark, shift in (
        ("fresh", "o-", 0.0),
        (f"fresh, {KEPT:.0%} surest", "s--", 0.06),
        ("reviewed", "^:", -0.06),
    ):
        found = [(row["round"], row[name]) for row in rows if row[name] is not None]
        middle = np.array([value["value"] for _, value in found])
        low = middle - [value["low"] for _, value in found]
        high = np.array([value["high"] for _, value in found]) - middle
        label = "reviewed in the round" if name == "reviewed" else name.replace("fresh", "never reviewed")
        at = np.array([number for number, _ in found]) + shift
        axes.errorbar(at, 100 * middle, 100 * np.array([low, high]), fmt=mark, capsize=3, label=label)
    axes.set_xticks([row["round"] for row in rows])
    axes.set_xlabel("bundle: 1 as it was, then renewed after each round of reviews")
    axes.set_ylabel("rejected, % of submitted sequences")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.text(0.01, 0.01, caption, fontsize=6, color="#666")
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


# The loop ------------------------------------------------------------------------------------------------------------


def with_splits(store: Store, out: Path, cases: dict[str, Case]) -> Path:
    """The verdicts of `agpis verdicts export --every` under their product's sku, of which an upload is one of many, and
    split by it."""
    found = export_verdicts(store, out, every=True)

    def split(sku: str) -> str:
        at = zlib.crc32(f"split/{sku}".encode()) / 2**32
        return "train" if at < 0.7 else "validation" if at < 0.85 else "test"

    skus = [cases[verdict.sku].key for verdict in found.verdicts]
    kept = [replace(v, sku=sku, split=split(sku)) for v, sku in zip(found.verdicts, skus, strict=True)]
    write_verdicts(kept, out)
    return out


def drawn(shops: Sequence[Shop], number: int, groups: int, seeds: Sequence[int], seed: int, style: Style) -> list[Case]:
    """An upload of each product of a group for each seed, seed by seed."""
    products = [(p, shop) for shop in shops for p in shop.uploads if group_of(p, groups, seed) == number]
    return [upload(p, shop, at, rates=RATES, style=style) for at in seeds for p, shop in products]


def run(
    bundle: Path | None,
    shops: Sequence[Shop],
    out: Path,
    *,
    rounds: int,
    disjoint: bool,
    sequences: int,
    fresh_seeds: int,
    via: Via,
    promote: Promote,
    changes: dict[str, Any],
    train: tuple[Head, ...],
    seed: int,
) -> list[dict[str, Any]]:
    """All rounds; one row for each bundle that decided on the set that nobody reviews."""
    begin = time.monotonic()
    (out / "uploads").mkdir(parents=True, exist_ok=True)
    uploads, home = Uploads(out / "uploads"), out / "bundles"
    groups = rounds if disjoint else 1
    seeds = range(SEED + 100 * seed, SEED + 100 * seed + fresh_seeds)
    fresh = uploads.write("fresh", drawn(shops, 0, groups, seeds, seed, Style.test()))
    rows: list[dict[str, Any]] = []
    current, first = bundle, None
    with open_store(out / "reviews.db") as store:
        for number in range(1, rounds + 2):
            opened, rulebook = Pipeline(None if current is None else str(current)).open()
            found = Fresh.of(decided(fresh, current, out / f"fresh-{number}"), uploads.cases)
            first = first or found
            own: Interval | None = None
            more: dict[str, Any] = {}
            if number <= rounds:
                group = number if disjoint else 1
                count = max(1, sum(group_of(p, groups, seed) == group for shop in shops for p in shop.uploads))
                several = range(1000 * number, 1000 * number + -(-int(1.2 * sequences) // count))
                cases = drawn(shops, group, groups, several, seed, Style.train())
                folders = decided(uploads.write(f"round-{number}", cases), current, out / f"round-{number}")
                outputs = [open_output(folder) for folder in folders]
                chosen = [d for output in outputs for d in output.decisions() if d.sequence]
                order = np.random.default_rng([seed, number]).permutation(len(chosen))[:sequences]
                store.add((chosen[i] for i in order), base=outputs[0].base)
                if via == "http":
                    with served(store, rulebook) as browser:
                        done = review_over_http(browser, uploads.cases, rulebook, sequences)
                else:
                    done = review_in_store(store, uploads.cases, rulebook, sequences)
                own = reviewed_rate(done, uploads.cases)
                samples = with_splits(store, out / f"samples-{number}.jsonl", uploads.cases)
                wanted = Renewal(
                    bundle=None if bundle is None else str(bundle), promote=promote, changes=changes, train=train,
                    name=f"round{number}", seed=seed, least=20,
                )  # fmt: skip
                renewed = renew(str(samples), home, wanted, progress=False)
                print(renewed)
                more = {"reviews": len(done), "renewal": renewed.why, "outcome": renewed.outcome}
                if renewed.outcome == "promoted":
                    current = (home / "current").resolve()
            more["minutes"] = round((time.monotonic() - begin) / 60, 1)
            rows.append(row_of(number, opened.name, found, first, own, more))
            show(rows[-1])
            (out / "loop.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--source", action="append", required=True, help="catalogue that the bundle was not trained on")
    parser.add_argument("--seen-too", action="store_true", help="allow sources that the bundle was trained on")
    parser.add_argument("--bundle", type=Path, default=None, help="folder of a bundle; the starter if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disjoint", action="store_true", help="each round reviews styles of its own")
    parser.add_argument("--sequences", type=int, default=1000, help="that the reviewer judges in a round")
    parser.add_argument("--fresh-seeds", type=int, default=6, help="uploads of each product that nobody reviews")
    parser.add_argument("--via", choices=("store", "http"), default="http")
    parser.add_argument("--promote", choices=("better", "always"), default="better")
    parser.add_argument("--set", action="append", default=[], help="setting of the renewals' training")
    parser.add_argument("--train", action="append", default=[], help="head of stage 1 that the renewals train too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--plot", type=Path, default=None, help="also draw the reject rate by round here")
    options = parser.parse_args(arguments)
    from agpis.configs import from_options

    opened, _ = Pipeline(None if options.bundle is None else str(options.bundle)).open()
    trained, hold_out = opened.manifest.trained_on, opened.manifest.hold_out
    seen = sorted(source for source in options.source if source in trained and not hold_out)
    if seen and not options.seen_too:
        raise SystemExit(f"{opened.name} was trained on {', '.join(seen)}; name other sources, or pass --seen-too.")
    if (options.out / "reviews.db").exists():
        raise SystemExit(f"{options.out} holds an earlier run; give a new folder.")
    shops = [Shop(options.data / source) for source in options.source]
    for shop in shops:
        if hold_out:
            shop.uploads = [product for product in shop.uploads if held_out(product, hold_out)]
    several = options.rounds if options.disjoint else 1
    own = [group_of(p, several, options.seed) for shop in shops for p in shop.uploads]
    groups = [own.count(number) for number in range(several + 1)]
    sources = ", ".join(options.source)
    print(f"machine: {machine()}\nbundle: {opened.name}, sources {sources}, seed {options.seed}, via {options.via}")
    reviewed = ", ".join(map(str, groups[1:])) + (" in the rounds" if options.disjoint else " in all rounds")
    print(f"products: {groups[0]} never reviewed, {reviewed}; trained on: {', '.join(trained)}")
    if seen:
        print(f"SEEN IN TRAINING: {', '.join(seen)}; the figures say nothing about new shops.")
    rows = run(
        options.bundle, shops, options.out,
        rounds=options.rounds, disjoint=options.disjoint, sequences=options.sequences,
        fresh_seeds=options.fresh_seeds, via=options.via,
        promote=options.promote, changes=from_options(options.set), train=heads(options.train), seed=options.seed,
    )  # fmt: skip
    if options.plot is not None:
        caption = f"bench.loop, bundle {opened.name}, {sources}, {options.sequences} sequences a round, "
        caption += f"seed {options.seed}; {machine()}"
        plot(rows, options.plot, caption)
        print(f"plot: {options.plot}")


if __name__ == "__main__":
    main()
