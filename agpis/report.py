"""Decisions -> one self-contained HTML file (or a few, paged) that opens from disk.

A page holds its products as JSON data blocks, one a product, which the page's script parses and draws only when
they come near the window; nothing in it can reach the network (Content-Security-Policy). Products are streamed to
a temporary folder beside the target, the pages put together at the end, when totals and page count are known, and
renamed last, the first page after all others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from agpis.data import OUTCOMES, STATUSES, Box, Candidate, Decision, Finding
from agpis.errors import SettingsError, output_error

STATUS_TEXTS: Mapping[str, tuple[str, str]] = {
    "generated": ("Sequence ready", "a sequence that a reviewer will probably accept"),
    "below_threshold": ("Below threshold", "the best sequence found would probably be rejected"),
    "no_primary": ("No primary photo", "no photo is good enough to come first"),
    "too_few_images": ("Too few photos", "fewer usable photos remain than the sequence needs"),
    "failed": ("Failed", "the product or its photos could not be read"),
}
"""Status -> (name, what it means), for a person."""

_MARK = '<meta name="generator" content="AGPIS report">'
"""In the head of every page: a file without it is not ours to delete."""


class Totals(Protocol):
    """Counts over a whole run, as the run's manifest keeps them."""

    @property
    def products(self) -> int:
        """Products decided."""

    @property
    def images(self) -> int:
        """Candidate images of those products."""

    @property
    def statuses(self) -> Mapping[str, int]:
        """Status -> products."""

    @property
    def reasons(self) -> Mapping[str, int]:
        """Removal reason (rule id, image error code, `duplicate`) -> images."""


@dataclass(slots=True)
class _Counted:
    """Totals counted here, for a caller that has none."""

    products: int = 0
    images: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, decision: Decision) -> None:
        self.products += 1
        self.images += len(decision.candidates)
        self.statuses[decision.status] += 1
        self.reasons.update(c.reason or "unknown" for c in decision.candidates if c.outcome == "removed")


@dataclass(slots=True)
class _Page:
    """One page while it is being collected: counts and the search index stay in memory, the products do not."""

    first: int
    rows: list[list[Any]] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)


def write_report(
    decisions: Iterable[Decision],
    path: Path,
    *,
    title: str,
    rule_names: Mapping[str, str],
    totals: Totals | None = None,
    page_size: int = 2000,
    limit: int | None = None,
    threshold: float | None = None,
) -> list[Path]:
    """Write the report of `decisions` to `path`, and to `report-2.html`, ... beyond `page_size` products.

    `rule_names` maps rule ids to names for a person. `totals` are the counts over the whole run; without them they
    are counted here, over all of `decisions`, also those beyond `limit`, the number of products shown. `threshold`
    is the p_qualified under which a sequence is not submitted; it is marked on the meters. Memory: the search index
    of one page (about 0.2 kB a product) and one product's thumbnails; pages of an earlier, longer report at the same
    place are deleted. Returns the files in order.

    Raises SettingsError (`bad_page_size`, `bad_limit`) and OutputError (`disk_full`, `not_writable`, ...).
    """
    if page_size < 1:
        raise SettingsError("bad_page_size", f"page_size is {page_size}; a page holds 1 product or more.")
    if limit is not None and limit < 0:
        raise SettingsError("bad_limit", f"limit is {limit}; it is 0 or more, or None to show every product.")
    counted = _Counted() if totals is None else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            spans = _collect(decisions, folder, rule_names, counted, page_size, limit, threshold)
            return _assemble(
                spans, folder, path, title, _summary(totals or counted or _Counted(), rule_names, threshold)
            )
    except OSError as error:
        raise output_error(error, path) from error


def _collect(
    decisions: Iterable[Decision],
    folder: Path,
    rule_names: Mapping[str, str],
    counted: _Counted | None,
    page_size: int,
    limit: int | None,
    threshold: float | None,
) -> list[tuple[int, int]]:
    """Write `N.products` and `N.index` of every page to `folder`; return (first, last) product number of each page."""
    spans: list[tuple[int, int]] = []
    page = _Page(first=1)
    file: IO[bytes] | None = None

    def finish() -> None:
        names = {rule: _name(rule, rule_names) for rule in sorted(page.rules)}
        index = {"threshold": _finite(threshold), "names": names, "rows": page.rows}
        (folder / f"{len(spans) + 1}.index").write_bytes(_json(index))
        spans.append((page.first, page.first + len(page.rows) - 1))

    try:
        for number, decision in enumerate(_until(decisions, None if counted else limit)):
            if counted:
                counted.add(decision)
            if limit is not None and number >= limit:
                continue
            if file is None or len(page.rows) == page_size:
                if file is not None:
                    file.close()
                    finish()
                page = _Page(first=number + 1)
                file = (folder / f"{len(spans) + 1}.products").open("wb")
            rules = _rules(decision)
            page.rules.update(rules)
            p = _finite(decision.p_qualified)
            page.rows.append([decision.sku, decision.title, decision.category, decision.status, p, rules])
            file.write(b'<script type="application/json" id="p%d">' % (len(page.rows) - 1))
            file.write(_json(_product(decision)) + b"</script>\n")
    finally:
        if file is not None:
            file.close()
    if file is None:
        (folder / "1.products").write_bytes(b"")
        page.first = 0
    finish()
    return spans if page.rows else [(0, 0)]


def _assemble(
    spans: list[tuple[int, int]],
    folder: Path,
    path: Path,
    title: str,
    values: Mapping[str, Any],
) -> list[Path]:
    """Put every page together in `folder`, rename them to their places (the first page last), delete stale pages."""
    template = Environment(
        loader=PackageLoader("agpis", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html")
    paths = [path if n == 1 else path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(1, len(spans) + 1)]
    for n, target in enumerate(paths, 1):
        marker = "<!--products-->"  # a title cannot forge it: jinja escapes its "<"
        head, tail = template.render(
            title=title,
            mark=Markup(_MARK),
            csp=_policy(template),
            page=n,
            pages=_window(n, [p.name for p in paths]),
            span=spans[n - 1],
            shown=spans[-1][1],
            **values,
        ).split(marker)
        with (folder / target.name).open("wb") as out:
            out.write(head.encode("utf-8", "xmlcharrefreplace"))  # a lone surrogate in a title does not end the run
            out.write(b'<script type="application/json" id="index">')
            out.write((folder / f"{n}.index").read_bytes() + b"</script>\n")
            # The script stands before the products: the first cards are drawn while the rest is still being read.
            script, tail = tail.split("<!--rest-->")
            out.write(script.encode())
            with (folder / f"{n}.products").open("rb") as products:
                shutil.copyfileobj(products, out, 1 << 20)
            out.write(tail.encode())
        (folder / f"{n}.products").unlink()
    for target in reversed(paths):
        (folder / target.name).replace(target)
    for stale in path.parent.glob(f"{_literal(path.stem)}-*{_literal(path.suffix)}"):
        if stale not in paths and stale.stem[len(path.stem) + 1 :].isdecimal() and _ours(stale):
            stale.unlink()
    return paths


def _summary(totals: Totals, rule_names: Mapping[str, str], threshold: float | None) -> dict[str, Any]:
    """What the head of every page says of the whole run."""
    statuses, left = [], 0.0
    for status in STATUSES:
        count = totals.statuses.get(status, 0)
        width = 100 * count / totals.products if totals.products else 0.0
        name, meaning = STATUS_TEXTS[status]
        statuses.append(
            {"id": status, "name": name, "meaning": meaning, "count": count, "left": round(left, 3), "width": width}
        )
        left += width
    reasons = [
        {
            "id": reason,
            "name": _name(reason, rule_names),
            "count": count,
            "width": 100 * count / max(totals.reasons.values()),
        }
        for reason, count in sorted(totals.reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    return {
        "products": totals.products,
        "images": totals.images,
        "removed": sum(totals.reasons.values()),
        "statuses": statuses,
        "reasons": reasons,
        "threshold": _finite(threshold),
    }


def _rules(decision: Decision) -> list[str]:
    """Every rule and reason that the product can be filtered by."""
    found = {violation.rule for violation in decision.violations}
    for candidate in decision.candidates:
        found.update(finding.rule for finding in candidate.findings)
        found.add(candidate.reason)
    if decision.error:
        found.add(decision.error.code)
    return sorted(found - {""})


def _product(decision: Decision) -> dict[str, Any]:
    """The data block of one product: what the page's script needs to draw its card."""
    # Where one uri stands twice among the candidates, it means the one that was kept.
    ranked = sorted(enumerate(decision.candidates), key=lambda item: (OUTCOMES.index(item[1].outcome), item[0]))
    places = {candidate.uri: place for place, candidate in reversed(ranked)}
    # "yes" is what the decoder says of a sequence it accepts (paper, 3.4): no news for a reader.
    feedback = decision.feedback if decision.feedback.strip().lower() != "yes" else ""
    return {
        "sequence": [places.get(uri, uri) for uri in decision.sequence],
        "violations": [[v.rule, v.scope, _finite(v.probability), places.get(v.image, -1)] for v in decision.violations],
        "feedback": feedback,
        "by": decision.feedback_by,
        "error": [decision.error.code, decision.error.message] if decision.error else None,
        "photos": [_photo(candidate, places) for candidate in decision.candidates],
    }


def _photo(candidate: Candidate, places: Mapping[str, int]) -> dict[str, Any]:
    photo: dict[str, Any] = {"uri": candidate.uri, "outcome": candidate.outcome}
    if candidate.width and candidate.height:
        photo["size"] = [candidate.width, candidate.height]
    for key, probability in (("primary", candidate.p_primary), ("noncompliant", candidate.p_noncompliant)):
        if _finite(probability) is not None:
            photo[key] = _finite(probability)
    if candidate.reason:
        photo["reason"] = candidate.reason
    if candidate.duplicate_of is not None:
        photo["twin"] = places.get(candidate.duplicate_of, candidate.duplicate_of)
    if candidate.findings:
        photo["findings"] = [_found(finding, places) for finding in candidate.findings]
    if candidate.thumbnail:
        photo["thumb"] = base64.b64encode(candidate.thumbnail).decode("ascii")
    return photo


def _found(finding: Finding, places: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {"rule": finding.rule}
    if finding.severity == "warning":
        found["warning"] = True
    if finding.other:
        found["other"] = places.get(finding.other, finding.other)
    for key, number in (("value", finding.value), ("limit", finding.limit), ("probability", finding.probability)):
        if _finite(number) is not None:
            found[key] = _finite(number)
    for key, text in (("unit", finding.unit), ("message", finding.message)):
        if text:
            found[key] = text
    for key, box in (("box", finding.box), ("otherBox", finding.other_box)):
        if box:
            found[key] = _corners(box)
    return found


def _corners(box: Box) -> list[int]:
    return [box.x, box.y, box.w, box.h]


def _finite(number: float | None) -> float | None:
    """`number` to 4 significant digits (the page shows 3); None where JSON has no word for it (NaN, infinity)."""
    if number is None or not math.isfinite(number):
        return None
    return float(f"{number:.4g}") if abs(number) < 1000 else round(float(number), 1)


def _name(rule: str, rule_names: Mapping[str, str]) -> str:
    """The rulebook's name of a rule; an image error code is put in words (`http_404` -> HTTP 404)."""
    words = rule.replace("_", " ").strip()
    return rule_names.get(rule) or ("HTTP" + words[4:] if words.startswith("http ") else words[:1].upper() + words[1:])


def _json(value: Any) -> bytes:
    """ASCII JSON that is safe inside a <script> element. ASCII also keeps the browser's strings at a byte a letter."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode("ascii")


def _policy(template: Template) -> str:
    """A Content-Security-Policy that allows exactly this page's style and script, pictures in data URLs, no network."""

    def digest(block: str) -> str:
        text = "".join(template.blocks[block](template.new_context()))
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest('style')}'; "
        f"script-src 'sha256-{digest('script')}'; base-uri 'none'; form-action 'none'"
    )


def _window(page: int, names: list[str]) -> list[tuple[int, str] | None]:
    """Page links to show on `page`: the ends and the neighbours, None for a gap."""
    links: list[tuple[int, str] | None] = []
    for n, name in enumerate(names, 1):
        if n in (1, len(names)) or abs(n - page) <= 2:
            links.append((n, name))
        elif links[-1] is not None:
            links.append(None)
    return links


def _until(decisions: Iterable[Decision], limit: int | None) -> Iterator[Decision]:
    """`decisions`, not asking for one more than `limit`."""
    if limit == 0:
        return
    for number, decision in enumerate(decisions, 1):
        yield decision
        if number == limit:
            return


def _literal(text: str) -> str:
    """`text` with the wildcards of glob made plain."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _ours(path: Path) -> bool:
    """Whether `path` is a page that this module wrote."""
    with path.open("rb") as file:
        return _MARK.encode() in file.read(4096)
