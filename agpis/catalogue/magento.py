"""Magento 2 product CSV: base, small and thumbnail image, and `additional_images` with labels aligned by place.

An export lists the whole gallery in `additional_images`, base image included; a file made for import often leaves the
base image out there. Either habit is kept. Rows with a `store_view_code` follow the row of their sku and say what
differs in one store view: they are no products, and their empty cells stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial as bound

from agpis.catalogue import files
from agpis.catalogue.csv_text import Row, Table, unquote
from agpis.catalogue.parts import Arrangement, Part, broken, distinct, unique
from agpis.data import Image, Product

_NO_IMAGE = ("", "no_selection")
VIEW_LIMIT = 10_000
"""Store-view rows of one product."""


def is_header(columns: Sequence[str]) -> bool:
    """Whether the (normalised) columns are Magento's."""
    return "sku" in columns and ("base_image" in columns or "additional_images" in columns)


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The file, one part a product with its store-view rows. Raises CatalogueError.

    A leading slash of an image path is dropped, so that it is relative to `base`: the folder of the file, or what is
    given (Magento keeps exported images under pub/media/catalog/product).
    """
    return unique(_groups(_Columns.of(source, base)))


@dataclass(frozen=True, slots=True)
class _Columns:
    table: Table
    folder: str
    sku: int
    view: int | None
    title: int | None
    category: int | None
    roles: tuple[tuple[int, int | None], ...]
    """small_image, thumbnail_image and swatch_image, each with its label."""
    swatch: int | None
    base: int | None
    base_label: int | None
    more: int | None
    more_labels: int | None
    hidden: int | None

    @classmethod
    def of(cls, source: str, base: str | None) -> _Columns:
        table = Table(source, is_header, "`sku` and `base_image` or `additional_images`")
        sku = table.index("sku")
        assert sku is not None  # by is_header
        roles = [(table.index(name), table.index(f"{name}_label")) for name in ("small_image", "thumbnail_image")]
        roles.append((table.index("swatch_image"), table.index("swatch_image_label")))
        return cls(
            table=table,
            folder=files.folder_of(source) if base is None else base,
            sku=sku,
            view=table.index("store_view_code"),
            title=table.index("name"),
            category=table.index("categories"),
            roles=tuple((image, label) for image, label in roles if image is not None),
            swatch=table.index("swatch_image"),
            base=table.index("base_image"),
            base_label=table.index("base_image_label"),
            more=table.index("additional_images"),
            more_labels=table.index("additional_image_labels"),
            hidden=table.index("hide_from_product_page"),
        )

    def text(self, row: Row, index: int | None) -> str:
        """What a cell says, decoded. Raises UnicodeError."""
        return "" if index is None else self.table.value(row.cells[index])


@dataclass(frozen=True, slots=True)
class _Gallery:
    """The images that one row names. Tokens and labels are carrier text, keys decoded uris."""

    base: str
    """Uri of the base image, or ""."""
    more: tuple[str, ...]
    """Uris of the additional images that are shown."""
    hidden: tuple[str, ...]
    """Uris of the additional images that `hide_from_product_page` takes off the page."""
    tokens: dict[str, str]
    labels: dict[str, str]

    @property
    def uris(self) -> list[str]:
        named = [self.base, *self.more] if self.base else self.more
        return list(dict.fromkeys(named))


def _groups(columns: _Columns) -> Iterator[Part]:
    table = columns.table
    head, rows = table.head_and_rows()
    yield Part(lambda: head)
    group: list[Row] = []
    sku = ""
    for row in rows:
        if group and _is_view_of(columns, row, sku) and len(group) < VIEW_LIMIT:
            group.append(row)
            continue
        if group:
            yield _part(columns, group)
        group = []
        if row.blank:
            yield Part(bound(table.raw, [row]))
        elif row.error is None and columns.view is not None and unquote(row.cells[columns.view]).strip():
            yield Part(bound(table.raw, [row]))  # a store view without its product
        else:
            group = [row]
            sku = unquote(row.cells[columns.sku]).strip() if row.error is None else ""
    if group:
        yield _part(columns, group)


def _is_view_of(columns: _Columns, row: Row, sku: str) -> bool:
    if columns.view is None or row.error is not None or row.blank or not sku:
        return False
    return unquote(row.cells[columns.sku]).strip() == sku and bool(unquote(row.cells[columns.view]).strip())


def _part(columns: _Columns, group: list[Row]) -> Part:
    row, table = group[0], columns.table
    part = Part(lambda: table.raw(group), place=row.place)
    if row.error is not None:
        part.product = Product(sku=row.place, title="", error=row.error)
        return part
    try:
        sku = columns.text(row, columns.sku)
        gallery = _gallery(columns, row)
        labels = {uri: table.value(label) for uri, label in gallery.labels.items()}
        title, category = columns.text(row, columns.title), columns.text(row, columns.category)
        for each in group:  # what a rewrite reads must be text
            _gallery(columns, each)
            for index, _ in columns.roles:
                columns.text(each, index)
    except UnicodeError:
        part.product = broken(row.place, "bad_encoding", "bytes that are no text in this file's encoding")
        return part
    if not sku:
        part.product = broken(row.place, "missing_sku", "the row has no sku")
        return part
    images = distinct(Image(uri, columns.folder, labels.get(uri, "")) for uri in gallery.uris)
    part.product = Product(sku=sku, title=title, category=category, images=images)

    def rewrite(arrangement: Arrangement) -> bytes:
        order = [images[index].uri for index in arrangement.order]
        return table.raw([_rewritten(columns, each, gallery, order, is_view=each is not row) for each in group])

    part.rewrite = rewrite
    return part


def _gallery(columns: _Columns, row: Row) -> _Gallery:
    """Raises UnicodeError."""
    table = columns.table
    tokens: dict[str, str] = {}
    labels: dict[str, str] = {}

    def note(token: str, label: str) -> str:
        uri = _uri(table.value(token))
        if uri in _NO_IMAGE:
            return ""
        tokens.setdefault(uri, token)
        labels[uri] = labels.get(uri) or label
        return uri

    def tokens_of(index: int | None) -> list[str]:
        return [] if index is None else [token.strip() for token in unquote(row.cells[index]).split(",")]

    base = ""
    if columns.base is not None:
        label = "" if columns.base_label is None else unquote(row.cells[columns.base_label])
        base = note(unquote(row.cells[columns.base]).strip(), label)
    # Magento's importer aligns labels by place; one that is missing is empty, one too many is not read.
    more_labels = tokens_of(columns.more_labels)
    more = [
        note(token, more_labels[place] if place < len(more_labels) else "")
        for place, token in enumerate(tokens_of(columns.more))
    ]
    hidden = {_uri(table.value(token)) for token in tokens_of(columns.hidden)}
    shown = tuple(uri for uri in more if uri and (uri not in hidden or uri == base))
    return _Gallery(base, shown, tuple(uri for uri in more if uri and uri not in shown), tokens, labels)


def _uri(text: str) -> str:
    return text.lstrip("/")


def _rewritten(columns: _Columns, row: Row, product: _Gallery, order: list[str], *, is_view: bool) -> Row:
    """The row with the new order. A store-view row changes only where it names images of the product."""
    own = _gallery(columns, row)
    tokens, labels = product.tokens | own.tokens, product.labels | own.labels
    gone = {uri for uri in product.uris if uri not in order}
    cells = list(row.cells)
    base = own.base
    if not is_view or base in gone or (base and base == product.base):
        base = order[0]
        columns.table.put(cells, columns.base, tokens[base])
        columns.table.put(cells, columns.base_label, labels.get(base, ""))
    old, new = own.base or product.base, base or order[0]
    for index, label in columns.roles:
        uri = _uri(columns.table.value(row.cells[index]))
        follows = uri == old and index != columns.swatch
        if uri not in _NO_IMAGE and uri != new and (uri in gone or follows):
            columns.table.put(cells, index, tokens[new])
            columns.table.put(cells, label, labels.get(new, ""))
    if is_view and not own.more:
        return Row(row.line, cells, row.end)
    named = set(own.uris) if is_view else set(order)
    lists_base = not own.base or own.base in own.more
    more = [uri for uri in order if uri in named and (lists_base or uri != base)]
    more += own.hidden
    columns.table.put(cells, columns.more, ",".join(tokens[uri] for uri in more))
    # A base image's label may hold a comma; in the list of labels that would shift all behind it.
    texts = [labels.get(uri, "").replace(",", ";") for uri in more]
    columns.table.put(cells, columns.more_labels, ",".join(texts) if any(texts) else "")
    return Row(row.line, cells, row.end)
