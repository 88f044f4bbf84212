"""Mirrored, stretched and recoloured products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agpis.simulate import Stock
from agpis.simulate.variants import Change, changed, drawn, named_colour, variants
from tests.tiny import draw_products


def test_as_many_as_asked_for_and_the_same_every_time() -> None:
    products = draw_products()
    products.append(replace(products[0], sku="one", pictures=products[0].pictures[:1], views=("front",)))
    found = variants(products, several=2, single=1, seed=3)
    assert len(found) == 12 * 2 + 1
    assert len({product.sku for product in (*products, *found)}) == 13 + 25
    again = variants(products, several=2, single=1, seed=3)
    for a, b in zip(found, again, strict=True):
        assert a.sku == b.sku
        for first, second in zip(a.pictures, b.pictures, strict=True):
            np.testing.assert_array_equal(first, second)
    assert all(len(v.pictures) == len(v.views) for v in found)


def test_sisters_are_changed_alike_and_stay_sisters() -> None:
    products = draw_products()
    stock = Stock(variants(products, several=1, single=1, seed=0))
    for product in stock.products:
        sisters = stock.sisters(product)
        assert {sister.color for sister in sisters} == {"red", "green", "blue"} - {product.color}
        assert all(s.pictures[0].shape == product.pictures[0].shape for s in sisters)


def test_a_product_whose_colour_is_named_keeps_it() -> None:
    product = draw_products()[0]
    assert named_colour(product)
    assert named_colour(replace(product, color=""))  # the title says "red"
    bare = replace(product, color="", title="round lamp")
    assert not named_colour(bare)
    (kept,) = variants([product], several=1, single=1, seed=1)
    (other,) = variants([bare], several=1, single=1, seed=1)
    middle = kept.pictures[0].shape[0] // 2, kept.pictures[0].shape[1] // 2
    assert kept.pictures[0][middle].argmax() == 0
    assert np.abs(other.pictures[0][middle].astype(int) - kept.pictures[0][middle]).max() > 40


def test_white_stays_white_and_the_shape_changes() -> None:
    white = np.full((40, 60, 3), 255, np.uint8)
    change = Change(mirrored=True, across=1.0, down=1.15, hue=90, saturation=1.2)
    assert changed(white, change).shape == (46, 60, 3)
    assert (changed(white, change) == 255).all()
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :20] = 200
    mirrored = changed(picture, Change(True, 1.0, 1.0, 0, 1.0))
    assert (mirrored[:, 40:] == 200).all()
    assert not mirrored[:, :40].any()


def test_changes_differ_from_each_other() -> None:
    found = [drawn(np.random.default_rng(seed), recoloured=True) for seed in range(40)]
    assert {change.mirrored for change in found} == {True, False}
    assert len({change.hue for change in found}) > 20
    assert all(1 / 1.19 < change.across * change.down < 1.19 for change in found)
