"""Routes of the work itself, JSON for the page's script: leases, verdicts, undo; and the pictures.

A call that fails answers `{"code", "message"}`: 401 sign in again, 409 not kept (somebody else has the sequence), 422
cannot be meant, 503 try again. The script keeps a verdict until it is answered by 200, 404, 409 or 422.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from agpis.accounts import csrf_mark, new_token
from agpis.data import Box
from agpis.errors import LeaseLost, StoreError
from agpis.records import Given, Item
from agpis.review_desk import Desk, Visitor, answer, desk_of, filters_of, query_of, set_cookie, visitor
from agpis.review_guard import VISIT, cookie_token
from agpis.review_item import LONGEST, fingerprint, payload
from agpis.sources import WIDTHS, Served, uris
from agpis.verdicts import is_text
from agpis.wording import say

router = APIRouter()
Who = Annotated[Visitor, Depends(visitor)]
Number = Annotated[int, Field(ge=0, le=2**53)]
RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Refusal(Exception):
    """A call that cannot be answered as asked."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Wanted(_Body):
    """Sequences that the page asks for."""

    count: Annotated[int, Field(ge=1, le=20)] = 1
    first: Number | None = None
    """This very decision, before all others."""
    passing: Annotated[list[Number], Field(max_length=500)] = []
    blind: bool = False
    filter: Annotated[str, Field(max_length=4000)] = ""
    """The query part of the page's address."""


class Held(_Body):
    """Sequences that the page still holds."""

    ids: Annotated[list[Number], Field(max_length=50)]


class Judgement(_Body):
    """A verdict, its photos named by number."""

    key: UUID = Field(strict=False)
    decision: Number
    v: Annotated[str, Field(max_length=64)]
    accepted: bool
    rules: Annotated[list[RuleId], Field(max_length=30)] = []
    photo: Number | None = None
    box: Annotated[list[int], Field(min_length=4, max_length=4)] | None = None
    feedback: Annotated[str, Field(max_length=LONGEST)] = ""
    corrected: Annotated[list[Number], Field(max_length=100)] = []
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False, strict=False)] = 0.0
    blind: bool = False


class Regret(_Body):
    """A verdict to take back."""

    key: UUID | None = Field(default=None, strict=False)
    blind: bool = False


@router.get("/api/session")
def session(request: Request, who: Who) -> Response:
    """Who is signed in, and the mark for POSTs; for a page that was open while the session changed."""
    token = cookie_token(dict(request.cookies))
    fresh = token or new_token()
    response = answer({"reviewer": who.name, "csrf": csrf_mark(fresh)})
    if not token:  # a browser that was closed and opened again, in open mode
        set_cookie(request, response, VISIT, fresh)
    return response


@router.post("/api/lease")
def lease(request: Request, who: Who, wanted: Wanted) -> Response:
    """Sequences for this reviewer: those that he holds first, then the next ones; and how many are left."""
    desk = desk_of(request)
    blind = wanted.blind or desk.options.blind
    query = query_of(filters_of(dict(parse_qsl(wanted.filter.lstrip("?")))))
    items: list[Item] = []
    taken = False
    if wanted.first is not None:
        first = _take(desk, who, wanted.first)
        taken = first is None
        items += [first] if first else []
    items += [
        item
        for item in desk.store.lease(
            who.name,
            query,
            count=wanted.count,
            seconds=desk.options.seconds,
            double=desk.options.double,
            passing=wanted.passing,
        )
        if item.id != wanted.first
    ]
    return answer({"items": _told(desk, items, blind=blind), "taken": taken, "left": desk.store.count(query)})


@router.post("/api/renew")
def renew(request: Request, who: Who, held: Held) -> Response:
    """Lengthen leases; answers with those that are still his."""
    desk = desk_of(request)
    return answer({"held": desk.store.renew(who.name, held.ids, desk.options.seconds), "asked": held.ids})


@router.post("/api/release")
def release(request: Request, who: Who, held: Held) -> Response:
    """Give sequences back, so that others can have them."""
    store = desk_of(request).store
    return answer({"released": sum(store.release(who.name, number) for number in held.ids)})


@router.post("/api/verdict")
def verdict(request: Request, who: Who, judgement: Judgement) -> Response:
    """Keep a verdict; the same key again is the same verdict."""
    desk = desk_of(request)
    item = _item(desk, judgement.decision)
    if fingerprint(item) != judgement.v:
        raise Refusal(409, "other_decision", say("lost"))
    try:
        kept = desk.store.give(given(judgement, item, who.name, blind=judgement.blind or desk.options.blind))
    except LeaseLost as error:
        raise Refusal(409, error.code, say("lost")) from None
    except StoreError as error:
        raise _of_store(error) from None
    return answer({"again": kept.again})


@router.post("/api/undo")
def undo(request: Request, who: Who, regret: Regret) -> Response:
    """Take back a verdict and lease its sequence again; `item` is null where that cannot be."""
    desk = desk_of(request)
    item = desk.store.undo(who.name, key=str(regret.key) if regret.key else "")
    if item is None or item.until is None:
        return answer({"item": None})
    (told,) = _told(desk, [item], blind=regret.blind or desk.options.blind)
    return answer({"item": told})


def given(judgement: Judgement, item: Item, reviewer: str, *, blind: bool) -> Given:
    """The verdict in the store's words. Raises Refusal (422) where it does not fit the decision."""
    names, sequence = uris(item.decision), item.decision.sequence
    if max([*judgement.corrected, judgement.photo or 0], default=0) >= max(1, len(names)):
        raise _misfit("photo of that number")
    corrected = tuple(names[number] for number in judgement.corrected)
    if len(set(corrected)) != len(corrected):
        raise _misfit("photo twice")
    if judgement.accepted:
        if not sequence:
            raise _misfit("sequence to accept")
        return Given(str(judgement.key), item.id, reviewer, True, seconds=judgement.seconds, blind=blind)
    feedback = judgement.feedback.replace("\0", "").strip()
    if not is_text(feedback):
        raise _misfit("place for such letters")
    index = None if judgement.photo is None else _index(sequence, names[judgement.photo])
    return Given(
        str(judgement.key),
        item.id,
        reviewer,
        False,
        rules=tuple(dict.fromkeys(judgement.rules)),
        image_index=index,
        box=_box(judgement.box, item, index),
        feedback=feedback,
        corrected=corrected if corrected != sequence else (),
        seconds=judgement.seconds,
        blind=blind,
    )


def _index(sequence: Sequence[str], uri: str) -> int:
    if uri not in sequence:
        raise _misfit("such photo in its sequence")
    return sequence.index(uri)


def _box(box: list[int] | None, item: Item, index: int | None) -> Box | None:
    if box is None:
        return None
    x, y, w, h = box
    if index is None or min(x, y) < 0 or min(w, h) < 1:
        raise _misfit("room for such a box")
    uri = item.decision.sequence[index]
    photo = next((c for c in item.decision.candidates if c.uri == uri and c.width and c.height), None)
    if photo is not None and (x + w > (photo.width or 0) or y + h > (photo.height or 0)):
        raise _misfit("room for such a box")
    return Box(x, y, w, h)


def _misfit(what: str) -> Refusal:
    return Refusal(422, "bad_verdict", f"The decision has no {what}.")


def _of_store(error: StoreError) -> Refusal:
    """A refusal of the store: what waiting cures is answered by 503, and sent again by the script."""
    status = 404 if error.code == "unknown_decision" else 422 if error.code in ("bad_verdict", "verdict_key") else 503
    return Refusal(status, error.code, error.message)


def _item(desk: Desk, number: int) -> Item:
    try:
        return desk.item(number)
    except StoreError as error:
        raise _of_store(error) from None


def _take(desk: Desk, who: Visitor, number: int) -> Item | None:
    try:
        return desk.store.take(who.name, number, desk.options.seconds)
    except StoreError as error:
        if error.code == "unknown_decision":
            return None
        raise


def _told(desk: Desk, items: Sequence[Item], *, blind: bool) -> list[dict[str, Any]]:
    seen = desk.store.seen({item.decision.sku for item in items})
    return [payload(desk.keep(item), desk.names, blind=blind, seen=seen.get(item.decision.sku, 0)) for item in items]


@router.get("/image/{decision}/{number}/{size}")
async def image(request: Request, decision: int, number: int, size: str) -> Response:
    """A picture of a decision, reduced. A broken one is a placeholder that says why."""
    desk = desk_of(request)
    if size not in WIDTHS or not 0 <= decision < 2**53:
        raise Refusal(404, "unknown_picture", say("problem_404"))
    loop = asyncio.get_running_loop()
    served = await loop.run_in_executor(desk.pictures.threads, _picture, desk, request, decision, number, size)
    # A placeholder is not kept: the picture's server may be back in a minute.
    caching = "no-store" if served.failed else "private, max-age=86400"
    headers = {"cache-control": caching, "content-security-policy": "default-src 'none'; sandbox"}
    return Response(served.data, media_type=served.media_type, headers=headers)


def _picture(desk: Desk, request: Request, decision: int, number: int, size: str) -> Served:
    desk.visitor(request, lately=True)
    item = _item(desk, decision)
    served = desk.pictures.get(item.decision, item.base, number, size)
    if served is None:
        raise Refusal(404, "unknown_picture", say("problem_404"))
    return served
