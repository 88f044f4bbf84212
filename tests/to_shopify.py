"""Any catalogue as a Shopify CSV (legacy header): `python tests/to_shopify.py catalog.jsonl > catalog.csv`.

The handle is the sku. Relative image addresses stay relative, so lay the CSV beside the catalogue.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable

from agpis.catalogue import read
from agpis.data import Product

HEADER = ("Handle", "Title", "Type", "Variant SKU", "Image Src", "Image Position", "Image Alt Text", "Variant Image")


def to_shopify(products: Iterable[Product]) -> str:
    """CSV text: a row a product, and one more for each image behind the first."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(HEADER)
    for product in products:
        first = (product.sku, product.title, product.category, product.sku)
        writer.writerow(
            [*first, *([product.images[0].uri, 1, product.images[0].alt] if product.images else [""] * 3), ""]
        )
        for position, image in enumerate(product.images[1:], start=2):
            writer.writerow([product.sku, "", "", "", image.uri, position, image.alt, ""])
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    sys.stdout.write(to_shopify(read(sys.argv[1])))
