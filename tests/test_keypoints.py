import cv2
import numpy as np
import pytest

from agpis import alignment
from agpis.alignment import Rect, Warp
from agpis.duplicates import CALIBRATION, WORTH
from agpis.images import Size, letterbox, placement
from agpis.keypoints import KEYPOINTS, RIM, SMALLEST_PATCH, STRONGEST, Keypoints, differing_bits, hypothesis
from agpis.rectangles import NEARLY, largest_sum, nearly_largest_sum
from tests.test_duplicates import drawn, edited, padded, pasted

SIZE = Size(224, 224)
MIDDLE = -CALIBRATION["dense"]["bias"] / CALIBRATION["dense"]["misfit"]
"""Misfit from which on a pair is rather no copy."""


def rect(picture):
    place = placement(picture.shape[1], picture.shape[0], SIZE)
    return Rect(place.left, place.top, place.left + place.width, place.top + place.height)


def keypoints(picture):
    return Keypoints(letterbox(picture, SIZE), rect(picture))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("scale", "x", "y"), [(1.0, 12, -9), (1.3, 3, 5), (0.7, 40, 20)])
def test_shift_scale_and_mirror_are_found(mirrored, scale, x, y):
    boxed = letterbox(drawn(3, shapes=60), SIZE)
    truth = Warp(-scale, 224 * scale - x, scale, y) if mirrored else Warp(scale, x, scale, y)
    matrix = np.array([[truth.sx, 0, truth.tx + truth.sx / 2 - 0.5], [0, scale, y + scale / 2 - 0.5]])
    moved = cv2.warpAffine(boxed, matrix, (224, 224), borderValue=(255, 255, 255))
    whole = Rect(0, 0, 224, 224)
    found = hypothesis(Keypoints(boxed, whole), Keypoints(moved, whole))
    assert found is not None
    assert found.inliers >= 20
    corners, right = found.warp(whole), truth(whole)
    assert np.abs(np.subtract(corners, right)).max() < 2.5


def test_keypoints_lie_on_the_picture_and_so_do_the_mirrored_ones():
    picture = drawn(2, 300, 600)
    found = keypoints(picture)
    assert 20 < len(found.plain.words) <= KEYPOINTS
    assert found.plain.words.shape == found.mirrored.words.shape
    for places in (found.plain.places, found.mirrored.places):
        assert (places > (56 + RIM - 1, RIM - 1)).all()
        assert (places < (168 - RIM + 1, 224 - RIM + 1)).all()
    plain, mirrored = ({tuple(p) for p in kind.places.round(1)} for kind in (found.plain, found.mirrored))
    assert plain == mirrored


def test_differing_bits_are_those_counted_one_by_one():
    a, b = keypoints(drawn(2)), keypoints(drawn(3, shapes=60))
    words = np.concatenate([a.plain.words, a.mirrored.words])
    counted = np.unpackbits(words[:, None] ^ b.plain.words[None], axis=2).sum(2)
    assert (differing_bits(a, b) == counted).all()
    assert len(set(counted.ravel().tolist())) > 50


def test_a_small_patch_finds_the_keypoints_of_the_usual_one():
    grey = cv2.cvtColor(letterbox(drawn(4, shapes=60), SIZE), cv2.COLOR_RGB2GRAY)
    usual, small = (
        [(p.pt, p.response, p.octave) for p in cv2.ORB.create(nfeatures=STRONGEST, patchSize=patch).detect(grey)]
        for patch in (31, SMALLEST_PATCH)
    )
    assert usual == small


def test_other_pictures_hardly_agree():
    one = keypoints(drawn(1))
    assert max(found.inliers if (found := hypothesis(one, keypoints(drawn(s)))) else 0 for s in range(2, 8)) < 8


def test_plain_pictures_have_no_keypoints_and_no_hypothesis():
    plain = keypoints(np.full((300, 300, 3), 255, np.uint8))
    assert len(plain.plain.words) == 0
    assert plain.plain.places.shape == (0, 2)
    assert hypothesis(plain, keypoints(drawn(1))) is None
    assert hypothesis(keypoints(drawn(1)), plain) is None


def test_a_faint_product_keeps_keypoints_beside_a_scene_of_strong_texture():
    faint = (255 - (255 - drawn(8, shapes=60).astype(np.float32)) * 0.4).astype(np.uint8)
    squares = np.random.default_rng(1).integers(0, 2, (20, 20), dtype=np.uint8) * 255
    scene = np.repeat(np.kron(squares, np.ones((48, 48), np.uint8))[:, :, None], 3, axis=2)
    scene[300:780, 240:720] = faint
    found = hypothesis(keypoints(faint), keypoints(scene))
    assert found is not None
    assert found.warp.sx == pytest.approx(0.5, rel=0.03)
    assert found.inliers >= WORTH


# the closer look ------------------------------------------------------------------------------------------------------


def greys(a, b):
    return tuple(alignment.Grey(letterbox(p, SIZE), rect(p)) for p in (a, b))


def looked(a, b):
    found = hypothesis(keypoints(a), keypoints(b))
    assert found is not None
    result = alignment.verify(*greys(a, b), found.warp)
    assert result is not None
    return result


def test_of_a_crop_that_was_pasted_only_the_crop_is_shared():
    picture = drawn(6, shapes=60)
    crop = picture[100:400, 60:380]
    found = looked(picture, pasted(crop))
    truth = np.array([60, 100, 380, 400]) * 224 / 480
    assert np.abs(np.array(found.shared) - truth).max() < 14, "within a block"
    assert found.likeness > 0.8
    assert found.misfit < MIDDLE


def test_evidence_is_of_a_product_and_no_more_than_the_letterbox_holds():
    picture = drawn(5, shapes=60)
    evidence = [looked(picture, copy).evidence for copy in (picture, picture[100:380, 100:380])]
    assert 5 < min(evidence) <= max(evidence) < np.log(SIZE.width * SIZE.height)


def test_a_copy_has_one_scale_for_both_axes():
    picture = drawn(5)
    warp = looked(picture, padded(picture, 140, 20, 60, 90)).warp
    assert warp.sx == pytest.approx(warp.sy)
    stretched = cv2.resize(picture[:, 60:420], (480, 480))
    assert looked(picture, stretched).likeness < looked(picture, picture[60:420, 60:420]).likeness - 0.1


def test_an_edit_of_all_colours_fits_and_one_of_the_products_colour_does_not():
    picture = drawn(7)
    assert looked(picture, picture).misfit < 0.05
    assert looked(picture, edited(picture)).misfit < MIDDLE
    tinted = picture.copy()
    product = (picture < 250).any(2)
    tinted[product] = (tinted[product] * np.array([1.0, 0.75, 0.45])).astype(np.uint8)
    assert looked(picture, tinted).misfit > looked(picture, edited(picture)).misfit + 0.5


def test_what_an_edit_cut_off_at_white_is_explained_from_either_side():
    picture = drawn(9, shapes=60)
    bright = np.clip(picture.astype(np.float32) * 1.2 + 12, 0, 255).astype(np.uint8)
    there, back = looked(picture, bright), looked(bright, picture)
    assert there.misfit == pytest.approx(back.misfit, abs=0.25)
    assert max(there.misfit, back.misfit) < MIDDLE


def test_a_cast_on_the_white_ground_too_is_an_edit_and_without_it_another_colour():
    picture = drawn(7)
    cast = (picture * np.array([1.0, 0.8, 0.65])).astype(np.uint8)
    dyed = np.where((picture < 250).any(2, keepdims=True), cast, picture)
    assert looked(picture, cast).misfit < MIDDLE < looked(picture, dyed).misfit


def test_a_mark_over_a_copy_leaves_most_of_it_the_same_and_another_colour_does_not():
    picture = drawn(6, shapes=60)
    marked = picture.copy()
    for y in range(20, picture.shape[0], 70):
        cv2.putText(marked, "SAMPLE", (10, y), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (128, 128, 128), 3)
    marked = cv2.addWeighted(picture, 0.4, marked, 0.6, 0)
    under = looked(picture, marked)
    recoloured = looked(picture, np.where(picture.min(2, keepdims=True) < 250, picture[..., ::-1], picture))
    assert under.same > 0.85 > 0.6 > recoloured.same


def test_the_largest_sum_is_that_of_brute_force():
    score = np.random.default_rng(0).normal(-0.2, 1, (7, 9))
    spans = [(t, b, le, r) for t in range(7) for b in range(t + 1, 8) for le in range(9) for r in range(le + 1, 10)]
    sums = [score[t:b, le:r].sum() for t, b, le, r in spans]
    best, most = largest_sum(score)
    large = nearly_largest_sum(score)
    assert most == pytest.approx(max(sums))
    assert best == spans[int(np.argmax(sums))]
    nearly = [s for s, total in zip(spans, sums, strict=True) if total >= NEARLY * most]
    size = max((b - t) * (r - le) for t, b, le, r in nearly)
    assert (large[1] - large[0]) * (large[3] - large[2]) == size


def test_a_thin_product_in_a_small_copy_has_its_own_colours():
    picture = np.full((480, 480, 3), 255, np.uint8)
    picture[225:262, 40:440] = cv2.resize(drawn(11, shapes=60)[60:420, 60:420], (400, 37), interpolation=cv2.INTER_AREA)
    found = looked(picture, padded(picture, 20, 300, 280, 130))
    assert found.misfit < MIDDLE, "cells of less than a pixel are not compared as if they were seen"
