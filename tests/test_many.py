"""Rendered products: the same from a seed, read by the simulator, and what the renderer computes."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from agpis.simulate import load
from agpis.simulate.stock import VIEWS, WHOLE
from sample import goods, kinds, light, many, prints, raster, shapes, solids, stage, surfaces
from sample import materials as m
from sample.set import Setting

pytestmark = pytest.mark.skipif(not hasattr(cv2, "triangleRasterize"), reason="needs OpenCV 5")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 64 px."""
    drawn = Setting.drawn
    monkeypatch.setattr(
        Setting, "drawn", lambda seed, *, stands: dataclasses.replace(drawn(seed, stands=stands), height=64, width=64)
    )


def built(*build) -> solids.Solid:
    """What `build` puts on a stage."""
    collected = solids.Solids()
    with stage.on(collected):
        for one in build:
            one()
    return collected.solid()


def test_one_product_twice_is_the_same_and_loads_with_several_views(tmp_path: Path, small: None) -> None:
    for folder in ("a", "b"):
        assert many.make(1, 4, tmp_path / folder)[0] == 1
    names = sorted(path.name for path in (tmp_path / "a" / "images").iterdir())
    assert len(names) >= 3
    for name in names:
        assert (tmp_path / "a" / "images" / name).read_bytes() == (tmp_path / "b" / "images" / name).read_bytes()
    (product,) = load([tmp_path / "a" / "catalog.jsonl"])
    assert len(product.pictures) == len(names)
    assert product.views[0] in WHOLE
    assert set(product.views) <= set(VIEWS)
    assert len(set(product.views)) > 1
    assert product.source == "a"
    assert product.color.split()[0] in product.title


def test_a_rerun_keeps_what_is_there_and_another_seed_is_refused(tmp_path: Path, small: None) -> None:
    many.make(1, 4, tmp_path)
    row = json.loads((tmp_path / "catalog.jsonl").read_text("utf-8"))
    first = tmp_path / row["images"][0]
    first.write_bytes(b"kept")
    many.make(1, 4, tmp_path)
    assert first.read_bytes() == b"kept"
    with pytest.raises(SystemExit, match="seed 4"):
        many.make(1, 5, tmp_path)


def test_plan_holds_colours_of_one_style_and_sisters_that_differ_by_a_detail() -> None:
    items = many.plan(120, 0)
    assert items[:40] == many.plan(40, 0)
    assert len({item.sku for item in items}) == 120
    styles: dict[str, list[many.Item]] = {}
    for item in items:
        assert 2 <= len(item.views) <= 6
        styles.setdefault(item.style, []).append(item)
    several = [group for group in styles.values() if len(group) > 1]
    assert len(several) > 15
    for group in several:
        assert len({item.color for item in group}) == len(group)
        assert len({(item.setting, item.views, item.make.seed, item.make.variant) for item in group}) == 1
    sisters = [(group[0], styles[f"{name}b"][0]) for name, group in styles.items() if f"{name}b" in styles]
    assert len(sisters) > 3
    for one, other in sisters:
        assert one.make.variant != other.make.variant
        assert dataclasses.replace(one.make, variant=0) == dataclasses.replace(other.make, variant=0)
        assert one.title != other.title


@pytest.mark.parametrize("name", [*kinds.KINDS, *(good.kind for good in goods.RANGE)])
def test_every_kind_and_variant_is_built_with_normals_outwards(name: str) -> None:
    """Each stands on the ground, and light from above meets the upper side of what it falls on."""
    good = next((good for good in goods.RANGE if good.kind == name), None)
    variants = 1 if good is not None else len(kinds.KINDS[name].variants)
    make = many.Make("#2f5fae", "#d8b384", "#223355", "#d9a441", "Nordal", "Honey", 11)
    for variant in range(variants):
        style = dataclasses.replace(make, variant=variant)
        solid = many.built(many.Item("A", name, style, "", "", "", "", (), 0, good, good.look if good else None))
        assert solid.low[2] == pytest.approx(0, abs=1e-5)
        assert np.isfinite(solid.points).all()
        assert 0.5 < float(np.ptp(solid.points, 0).max()) < 6
        assert np.allclose(np.linalg.norm(solid.normals, axis=1), 1, atol=1e-3)
        top = solid.points[:, 2] > solid.high[2] - 1e-3
        assert solid.normals[top, 2].max() > 0


def test_a_ball_casts_the_shadow_that_geometry_says() -> None:
    ball = built(lambda: shapes.ball(1.0, m.plastic("#888888"), (0, 0, 3.0)))
    ball = ball.moved((0, 0, 2.0))
    way = np.array([[0, 0, 1.0]], np.float32)
    points = np.array([[x, 0, 0] for x in (0.0, 0.8, 1.2, 2.0)], np.float32)
    up = np.tile(np.array([[0, 0, 0.01]], np.float32), (4, 1))
    assert raster.lit(ball, points, up, way)[:, 0].round().tolist() == [0, 0, 1, 1]
    # The upper half of the ball sees the lamp above it, the lower half does not.
    seen = raster.lit(ball, ball.points, ball.normals, way)[:, 0]
    assert seen[ball.normals[:, 2] > 0.3].min() > 0.9
    assert seen[ball.normals[:, 2] < -0.3].max() < 0.1


def test_open_ground_and_a_level_white_surface_are_white() -> None:
    plate = built(lambda: shapes.disc(1.0, 0.02, m.plastic("#ffffff", 1.0)))
    lit = light.Lit(plate)
    camera = raster.framed(plate, 0, 60, 20, 64, 64, 0.7)
    picture = light.photograph(lit, camera, light.Lamps(), light.Ground())
    assert (picture[0] == 255).all()
    assert picture[28:36, 28:36].min() > 235


def test_hits_lie_on_the_surface_where_the_camera_sees_it() -> None:
    ball = built(lambda: shapes.ball(1.0, m.plastic("#888888"), (0, 0, 1.0)))
    camera = raster.framed(ball, 30, 20, 20, 64, 80, 0.8)
    hits = raster.rasterised(ball, camera)
    at = hits.mixed(ball, ball.points)
    assert np.linalg.norm(at - (0, 0, 1), axis=1) == pytest.approx(1, abs=0.02)
    seen = camera.seen(at)
    assert np.abs(seen[:, 0] - hits.columns - 0.5).max() < 0.6
    assert np.abs(seen[:, 1] - hits.rows - 0.5).max() < 0.6
    width = hits.columns.max() - hits.columns.min() + 1
    assert max(width / 80, (hits.rows.max() - hits.rows.min() + 1) / 64) == pytest.approx(0.8, abs=0.03)


def test_ears_fill_a_concave_face_once() -> None:
    corners = np.array([(0, 0, 0), (3, 0, 0), (3, 3, 0), (2, 3, 0), (2, 1, 0), (0, 1, 0)], float)
    triangles = solids.triangulated(corners, [list(range(6))])
    a, b, c = (corners[triangles[:, k]] for k in range(3))
    areas = np.cross(b - a, c - a)[:, 2] / 2
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx(5)


def test_subdivision_keeps_the_surface_and_leaves_no_long_edge() -> None:
    corners = np.array([(0, 0, 0), (2, 0, 0), (2, 0.3, 0), (0, 0.3, 0)], float)
    points, triangles = solids.subdivided(corners, np.array([(0, 1, 2), (0, 2, 3)], np.int32), 0.2)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(0.6)
    assert max(np.linalg.norm(x - y, axis=1).max() for x, y in ((a, b), (b, c), (c, a))) <= 0.3


def test_rotation_is_that_of_blender() -> None:
    """x first, then y, then z; the matrix of mathutils.Euler((0.3, -0.4, 1.1)).to_matrix()."""
    wanted = [[0.41779, -0.87307, -0.25150], [0.82084, 0.32878, 0.46705], [-0.32508, -0.40157, 0.85622]]
    by_hand = [math.cos(-0.4) * math.cos(1.1), math.cos(-0.4) * math.sin(1.1), -math.sin(-0.4)]
    found = solids.rotation((0.3, -0.4, 1.1))
    assert found[:, 0] == pytest.approx(by_hand)
    assert found @ found.T == pytest.approx(np.eye(3))
    assert abs(found[0, 0] - wanted[0][0]) < 1e-4


@pytest.mark.parametrize("name", prints.PATTERNS)
def test_patterns_repeat_without_a_seam(name: str) -> None:
    tile = prints.pattern(np.random.default_rng(1), name, ("#ffffff", "#204080", "#c04030")).astype(float)
    for axis in (0, 1):
        inner = np.abs(np.diff(tile, axis=axis)).mean((1 - axis, 2))
        seam = np.abs(np.take(tile, 0, axis) - np.take(tile, -1, axis)).mean()
        assert seam <= inner.max() + 1


def test_front_and_back_of_a_print_differ() -> None:
    front = np.zeros((8, 8, 3), np.uint8)
    surface = m.printed(front, (1.0, 1.0), back=np.full((8, 8, 3), 255, np.uint8))
    at = np.zeros((2, 3), np.float32)
    found = surfaces.optics(surface, at, np.array([(0, -1, 0), (0, 1, 0)], np.float32))
    assert found.colour[:, 0].tolist() == [0, 1]
