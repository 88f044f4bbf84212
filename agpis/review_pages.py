"""Routes of the pages: queue, review, history of a product, a reviewer's day, the team."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from starlette.responses import RedirectResponse

from agpis.data import Verdict
from agpis.records import Day, Item, Judged, Listed
from agpis.review_desk import MEDIA_TYPES, Desk, Visitor, desk_of, filters_of, local, query_of, visitor, zone_of
from agpis.review_login import with_visit
from agpis.review_team import by_hour, percent, team, typical_seconds
from agpis.sources import uris
from agpis.verdicts import moment_of
from agpis.wording import WORDS

router = APIRouter()
Who = Annotated[Visitor, Depends(visitor)]
Number = Annotated[int, Field(ge=0, le=2**53)]

PAGE = 30
SHOWN = 3
"""Photos of a sequence on a line of the queue."""
SPANS = (7, 30, 90)
"""Days that the team page can show."""


@router.get("/")
def home(who: Who) -> Response:
    """The queue."""
    return RedirectResponse("/queue", 303)


@router.get("/static/{version}/{name}")
def file(request: Request, version: str, name: str) -> Response:
    """Scripts and styles; their addresses change with their content."""
    desk = desk_of(request)
    if name not in desk.static:
        return Response(status_code=404)
    kept = version == desk.version  # not where a page of another version of the program asks
    headers = {"cache-control": "public, max-age=31536000, immutable"} if kept else {}
    media_type = f"{MEDIA_TYPES[PurePath(name).suffix]}; charset=utf-8"
    return Response(desk.static[name], media_type=media_type, headers=headers)


@router.get("/queue")
def queue(request: Request, who: Who, after: Number | None = None) -> Response:
    """What waits, filtered, a page of it."""
    desk = desk_of(request)
    filters = filters_of(request.query_params)
    query = query_of(filters)
    listed = desk.store.find(query, after=after, limit=PAGE + 1)
    return with_visit(request) or desk.page(
        request,
        "queue.html",
        visitor=who,
        filters=filters,
        facets=desk.store.facets(),
        count=desk.store.count(query),
        lines=[_line(desk, line) for line in listed[:PAGE]],
        after=after,
        more=listed[PAGE - 1].id if len(listed) > PAGE else None,
    )


def _line(desk: Desk, line: Listed) -> dict[str, Any]:
    item = desk.item(line.id)
    return {"line": line, **_strip(desk, item, item.decision.sequence)}


def _strip(desk: Desk, item: Item, sequence: tuple[str, ...]) -> dict[str, Any]:
    """Small pictures of a sequence: addresses, and how many more there are."""
    places = {uri: number for number, uri in enumerate(uris(item.decision))}
    shown = [desk.picture(item, places[uri]) for uri in sequence[:SHOWN] if uri in places]
    return {"pictures": shown, "more": max(0, len(sequence) - len(shown)), "count": len(sequence)}


@router.get("/review")
def review(request: Request, who: Who) -> Response:
    """The page that sequences are judged on; its script fetches them."""
    return _review(request, who, None)


@router.get("/review/{decision}")
def review_one(request: Request, who: Who, decision: Number) -> Response:
    """The same, this decision first."""
    return _review(request, who, decision)


def _review(request: Request, who: Visitor, first: int | None) -> Response:
    desk = desk_of(request)
    day = desk.store.day(who.name, local(datetime.now(UTC), zone_of(request)).date(), zone_of(request))
    boot = {
        "reviewer": who.name,
        "first": first,
        "rules": desk.rules,
        "words": dict(WORDS),
        "blind": desk.options.blind,
        "seconds": desk.options.seconds,
        "today": day.accepted + day.rejected,
    }
    return with_visit(request) or desk.page(
        request, "review.html", visitor=who, boot=boot, rules=desk.rules, filters=filters_of(request.query_params)
    )


@router.get("/history")
def history(request: Request, who: Who, sku: str = "") -> Response:
    """All decisions and verdicts of a product."""
    desk = desk_of(request)
    past = desk.store.history(sku) if sku and "\0" not in sku else []
    zone = zone_of(request)
    entries = []
    for each in past:
        verdicts = [_judged(desk, judged, each.item, zone) for judged in each.verdicts]
        strip = _strip(desk, each.item, each.item.decision.sequence) if each.item else None
        added = local(each.item.added, zone) if each.item else None
        entries.append({"item": each.item, "strip": strip, "verdicts": verdicts, "added": added})
    status = 200 if past else 404
    return desk.page(request, "history.html", status, visitor=who, sku=sku, entries=entries)


@router.get("/day")
def day(request: Request, who: Who, day: str = "") -> Response:
    """What the reviewer did on a day of his time zone."""
    desk, zone = desk_of(request), zone_of(request)
    today = local(datetime.now(UTC), zone).date()
    try:
        chosen = min(today, date.fromisoformat(day)) if day else today
    except ValueError:
        chosen = today
    chosen = max(chosen, date(2000, 1, 1))
    found: Day = desk.store.day(who.name, chosen, zone)
    lines = [_judged(desk, judged, None, zone) for judged in reversed(found.judged)]
    moments = [line["at"] for line in lines if line["at"] and not line["judged"].undone]
    return desk.page(
        request,
        "day.html",
        visitor=who,
        day=found,
        lines=lines,
        before=chosen - timedelta(days=1),
        behind=chosen + timedelta(days=1) if chosen < today else None,
        typical=typical_seconds(found),
        hours=by_hour(moments) if moments else "",
    )


def _judged(desk: Desk, judged: Judged, item: Item | None, zone: str) -> dict[str, Any]:
    """A verdict for a template, on the reader's clock, with its corrected sequence's pictures."""
    verdict: Verdict = judged.verdict
    moment = moment_of(verdict.time)
    return {
        "judged": judged,
        "verdict": verdict,
        "item": item,
        "at": local(moment, zone) if moment else None,
        "corrected": _strip(desk, item, verdict.corrected) if item and verdict.corrected else None,
    }


@router.get("/team")
def team_page(request: Request, who: Who, days: int = 30) -> Response:
    """How the team does: reject rates, throughput, agreement. Rows by reviewer are for administrators."""
    desk = desk_of(request)
    span = days if days in SPANS else 30
    until = datetime.now(UTC) + timedelta(seconds=1)
    return desk.page(
        request,
        "team.html",
        visitor=who,
        team=team(desk.store, until, span, desk.names),
        span=span,
        spans=SPANS,
        percent=percent,
    )
