import itertools

import cv2
import numpy as np
import pytest

from agpis import alignment, dense, edgeboxes
from agpis.data import Box
from agpis.duplicates import CALIBRATION, STATISTICS, PairMatch, View, crops, match_pairs, resolve
from agpis.errors import SettingsError
from agpis.images import Size, letterbox

SIZE = Size(224, 224)
GRID = 14


def unit(values):
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-9)


def drawn(seed, width=480, height=480, shapes=26):
    """A product on white: a blob full of coloured shapes, different for every seed."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 255, np.uint8)
    for _ in range(shapes):
        centre = (int(width * rng.uniform(0.2, 0.8)), int(height * rng.uniform(0.15, 0.85)))
        colour = tuple(int(c) for c in rng.integers(0, 220, 3))
        axes = (int(width * rng.uniform(0.02, 0.14)), int(height * rng.uniform(0.02, 0.14)))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def looks(boxed):
    """Simple patch descriptors: 4 x 4 colour means of each patch with some surround, alike for its mirror image."""
    padded = cv2.copyMakeBorder(boxed, 8, 8, 8, 8, cv2.BORDER_REPLICATE)
    found = []
    for row, column in itertools.product(range(GRID), repeat=2):
        patch = padded[row * 16 : row * 16 + 32, column * 16 : column * 16 + 32]
        small = cv2.resize(patch, (4, 4), interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= small.mean()
        found.append(np.concatenate([(small + small[:, ::-1]).ravel(), np.abs(small - small[:, ::-1]).ravel(), [60.0]]))
    return unit(np.array(found, np.float32))


def view(picture, pixels=True):
    boxed = letterbox(picture, SIZE)
    return View(looks(boxed), picture.shape[1], picture.shape[0], SIZE, boxed if pixels else None)


def padded(picture, left, top, right, bottom, colour=(255, 255, 255)):
    return cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)


def edited(picture):
    """Paler and warmer."""
    colours = picture.astype(np.float32)
    grey = colours.mean(2, keepdims=True)
    return ((grey + (colours - grey) * 0.7) * np.float32([1.0, 0.95, 0.88])).astype(np.uint8)


def dyed(picture):
    """Another colour of the product: red and blue change places."""
    return picture[..., ::-1].copy()


def coded(picture, quality=45):
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def pasted(picture):
    ground = np.random.default_rng(5).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    ground = cv2.resize(ground, (700, 700), interpolation=cv2.INTER_CUBIC)
    ground[150 : 150 + picture.shape[0], 120 : 120 + picture.shape[1]] = picture
    return ground


COPIES = {
    "same": lambda p: p.copy(),
    "coded": coded,
    "crop": lambda p: p[60:400, 80:420].copy(),
    "mirrored": lambda p: p[:, ::-1].copy(),
    "padded": lambda p: padded(p, 140, 20, 60, 90),
    "padded black": lambda p: padded(p, 100, 100, 100, 100, (0, 0, 0)),
    "pasted": pasted,
    "edited": edited,
    "smaller": lambda p: cv2.resize(p, (150, 150), interpolation=cv2.INTER_AREA),
    "mirrored crop, edited, coded": lambda p: coded(edited(p[40:430, 40:430])[:, ::-1].copy()),
}


def iou(a, b):
    across = max(0, min(a.x + a.w, b.x + b.w) - max(a.x, b.x))
    down = max(0, min(a.y + a.h, b.y + b.h) - max(a.y, b.y))
    return across * down / (a.w * a.h + b.w * b.h - across * down)


# dense ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_copies_are_found(kind, seed):
    picture = drawn(seed)
    (match,) = match_pairs([view(picture), view(COPIES[kind](picture))])
    assert match.probability > 0.9
    assert match.mirrored == ("mirrored" in kind)


def test_other_pictures_are_no_copies():
    views = [view(drawn(seed)) for seed in range(10, 18)]
    matches = match_pairs(views)
    assert [(m.a, m.b) for m in matches] == list(itertools.combinations(range(8), 2))
    assert max(m.probability for m in matches) < 0.1


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_another_colour_of_the_product_is_no_copy(kind, seed):
    picture = drawn(seed)
    (match,) = match_pairs([view(picture), view(dyed(COPIES[kind](picture)))])
    assert match.probability < 0.5
    assert match.statistics["likeness"] > 0.8, "though it is the same photograph"


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(480, 480, Box(80, 60, 340, 340)), (640, 400, Box(200, 40, 330, 320)), (420, 700, Box(30, 150, 340, 400))],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_boxes_of_a_crop_are_in_source_pixels(width, height, box, mirrored):
    picture = drawn(4, width, height, shapes=40)
    crop = picture[box.y : box.y + box.h, box.x : box.x + box.w]
    crop = cv2.resize(crop, None, fx=1.6, fy=1.6, interpolation=cv2.INTER_LINEAR)
    match = match_pairs([view(picture), view(crop[:, ::-1].copy() if mirrored else crop)])[0]
    assert match.probability > 0.9
    assert iou(match.box_a, box) > 0.85
    assert iou(match.box_b, Box(0, 0, crop.shape[1], crop.shape[0])) > 0.85


def test_the_boxes_of_a_pasted_copy_lie_where_it_was_pasted():
    picture = drawn(6)
    match = match_pairs([view(picture), view(pasted(picture))])[0]
    assert iou(match.box_a, Box(0, 0, 480, 480)) > 0.85
    assert iou(match.box_b, Box(120, 150, 480, 480)) > 0.85


def small_on_white(seed):
    """A small product in the middle of much white ground."""
    picture = np.full((480, 480, 3), 255, np.uint8)
    picture[190:290, 190:290] = cv2.resize(drawn(seed, 300, 300), (100, 100), interpolation=cv2.INTER_AREA)
    return picture


def test_white_ground_is_no_evidence():
    for pixels in (True, False):
        views = [view(small_on_white(seed), pixels) for seed in (20, 21, 22)]
        assert max(m.probability for m in match_pairs(views)) < 0.5


@pytest.mark.parametrize("pixels", [True, False])
def test_plain_pictures_match_nothing(pixels):
    white, grey = np.full((300, 300, 3), 255, np.uint8), np.full((300, 200, 3), 128, np.uint8)
    matches = match_pairs([view(white, pixels), view(grey, pixels), view(white.copy(), pixels), view(drawn(1), pixels)])
    assert max(m.probability for m in matches) < 0.5
    assert all(np.isfinite(m.probability) for m in matches)


def field(seed, width=48):
    """Descriptors as a smooth random function of the place on the product: the same surface, the same descriptor."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.normal(0, 0.8, (2, width)), rng.uniform(0, 2 * np.pi, width)
    return lambda places: unit(np.sin(places @ frequency + phase)).astype(np.float32)


@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, (0, 0)), (1.0, (3, -2)), (1.5, (1.4, 2.2)), (0.6, (-2, 1.5))])
def test_patches_alone_give_shift_scale_and_mirror(mirror, scale, shift):
    line = np.arange(GRID) - (GRID - 1) / 2
    places = np.stack([np.tile(line, GRID), np.repeat(line, GRID)], 1)
    surface, elsewhere = field(1), field(2)
    sign = np.array([mirror, 1])
    origin = (places - np.array(shift)) * sign / scale  # where each patch of b lies in a
    known = (np.abs(origin) < GRID / 2).all(1)
    b = np.where(known[:, None], surface(origin), elsewhere(places))
    patches = np.stack([surface(places), b]).astype(np.float32)
    weight = dense.weights(patches, np.ones((2, GRID * GRID), np.float32))
    found = dense.hypotheses(patches, weight, np.array([0]), np.array([1]), grid=GRID)
    best = int(found.best[0])
    assert best == (0 if mirror == 1 else 1)
    assert found.scale[0, best] == pytest.approx(scale, rel=0.08)
    assert found.shift[0, best] == pytest.approx(shift, abs=0.35)
    assert found.share[0, best] > 0.9
    assert found.share[0, best] > found.share[0, 1 - best]


def test_a_patch_speaks_less_the_more_look_like_it():
    patches = np.concatenate(
        [np.tile(field(1)(np.zeros((1, 2))), (190, 1)), field(2)(np.eye(2)[[0, 1, 0, 1, 0, 1]] * 9)]
    )
    visible = np.ones((1, 196), np.float32)
    visible[0, :14] = 0
    weight = dense.weights(patches[None].astype(np.float32), visible)[0]
    assert (weight[:14] == 0).all(), "padding has no voice"
    assert weight[20] < 0.01, "ground hardly has one"
    assert weight[-1] > 20 * weight[20]


def test_batched_pairs_equal_single_pairs():
    pictures = [drawn(1), COPIES["crop"](drawn(1)), drawn(2), COPIES["mirrored"](drawn(2)), drawn(3, 300, 500)]
    views = [view(p) for p in pictures]
    for together in match_pairs(views):
        (alone,) = match_pairs([views[together.a], views[together.b]])
        assert alone.probability == pytest.approx(together.probability, abs=1e-4)
        assert (alone.box_a, alone.box_b) == (together.box_a, together.box_b)


def test_without_pixels_the_patches_decide():
    picture = drawn(1)
    views = [view(picture, pixels=False), view(COPIES["padded"](picture)), view(drawn(9))]
    same, other, _ = match_pairs(views)
    assert set(same.statistics) == set(STATISTICS["patches"])
    assert same.probability > other.probability
    assert same.statistics["share"] > other.statistics["share"]


def test_refinement_mends_a_hypothesis_that_is_half_a_patch_off():
    picture = drawn(8)
    whole = alignment.Rect(0, 0, 224, 224)
    a = alignment.Grey(letterbox(picture, SIZE), whole)
    b = alignment.Grey(letterbox(picture[48:432, 48:432], SIZE), whole)  # scale 1.25 about the centre
    truth = alignment.Warp(1.25, 112 - 1.25 * 112, 1.25, 112 - 1.25 * 112)
    found = alignment.align(a, b, [truth._replace(tx=truth.tx + 6, ty=truth.ty - 5)])
    assert found.correlation > 0.95
    assert found.warp == pytest.approx(truth, rel=0.02)


# crops and copies with a margin --------------------------------------------------------------------------------------


def on(colour, seed):
    """The drawn product on ground of another colour."""
    picture = drawn(seed)
    picture[(picture == 255).all(2)] = colour
    return picture


def survivors(pictures, p_noncompliant, primary=None):
    """Positions that stay, and which pictures count as crops."""
    views = [view(picture) for picture in pictures]
    matches = match_pairs(views)
    parts = crops(matches, 0.9, views)
    gone = resolve(matches, 0.9, primary, np.array(p_noncompliant), frozenset(parts))
    return sorted(set(range(len(views))) - set(gone)), parts


MARGINS = {
    "white on white": lambda p: padded(p, 140, 120, 60, 90),
    "grey on white": lambda p: padded(p, 140, 120, 60, 90, (190, 190, 190)),
    "black on white": lambda p: padded(p, 40, 120, 160, 90, (0, 0, 0)),
    "mirrored, on white": lambda p: padded(p[:, ::-1].copy(), 140, 120, 60, 90),
    "mirrored, on grey, coded": lambda p: coded(padded(p[:, ::-1].copy(), 140, 120, 60, 90, (128, 128, 128))),
    "smaller, on white": lambda p: padded(cv2.resize(p, (300, 300), interpolation=cv2.INTER_AREA), 90, 60, 30, 90),
}


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("ground", [255, 200])
def test_a_margin_of_plain_ground_makes_no_whole(kind, seed, ground):
    picture = on(ground, seed)
    pair = [MARGINS[kind](picture), picture]
    assert survivors(pair, [0.6, 0.1]) == ([1], {}), "the smaller p_noncompliant"
    assert survivors(pair, [0.1, 0.6]) == ([0], {})
    assert survivors(pair, [0.1, 0.6], primary=1) == ([1], {}), "the primary first"
    assert survivors(pair, [0.2, 0.2]) == ([1 if kind.startswith("smaller") else 0], {}), "the finer, else the earlier"


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("ground", [255, 200])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_a_crop_and_its_whole_the_whole_stays(seed, ground, mirrored):
    picture = on(ground, seed)
    crop = picture[60:400, 80:420]
    pair = [coded(crop[:, ::-1].copy() if mirrored else crop.copy()), picture]
    assert survivors(pair, [0.1, 0.6]) == ([1], {0: 1})


def test_a_copy_pasted_on_a_scene_shows_more_than_the_original():
    picture = drawn(6)
    assert survivors([picture, pasted(picture)], [0.1, 0.6]) == ([1], {0: 1})


def test_without_pixels_what_is_larger_is_the_whole():
    a, b = view(drawn(1), pixels=False), view(drawn(1), pixels=False)
    larger = PairMatch(0, 1, 0.95, Box(0, 0, 480, 480), Box(100, 100, 300, 300))
    assert crops([larger], 0.9, [a, b]) == {0: 1}


# edgeboxes -----------------------------------------------------------------------------------------------------------


def embed(crops):
    """A stand-in for the network that any picture has: its grey thumbnail."""
    small = np.stack([cv2.resize(c, (12, 12), interpolation=cv2.INTER_AREA) for c in crops]).astype(np.float32)
    grey = small.mean(3).reshape(len(crops), -1)
    return grey - grey.mean(1, keepdims=True)


def test_edgeboxes_finds_the_product_pasted_small():
    picture = drawn(3)
    views = [view(picture), view(padded(picture, 300, 200, 100, 100)), view(drawn(11))]
    same, other, _ = match_pairs(views, matcher="edgeboxes", embed=embed)
    assert same.probability > other.probability
    assert same.statistics["best"] > 0.9
    x, y, w, h = same.box_a.x, same.box_a.y, same.box_a.w, same.box_a.h
    assert iou(same.box_b, Box(x + 300, y + 200, w, h)) > 0.7, "the same part of the product"


def test_proposals_lie_on_the_picture_and_apart():
    boxed = letterbox(drawn(5, 300, 600), SIZE)
    boxes = edgeboxes.propose(boxed, (56, 0, 168, 224))
    assert boxes[0].tolist() == [56, 0, 112, 224], "the whole picture is one"
    assert 3 <= len(boxes) <= edgeboxes.PROPOSALS
    assert (boxes[:, 0] >= 56).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 168).all()
    for a, b in itertools.combinations(boxes.tolist(), 2):
        assert iou(Box(*a), Box(*b)) <= edgeboxes.MOST_ALIKE + 1e-6


def test_a_plain_picture_has_one_proposal():
    assert len(edgeboxes.propose(np.full((224, 224, 3), 255, np.uint8), (0, 0, 224, 224))) == 1


# errors --------------------------------------------------------------------------------------------------------------


def test_no_and_one_view_have_no_pairs():
    assert match_pairs([]) == []
    assert match_pairs([view(drawn(1))]) == []


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        ({"matcher": "sift"}, "matcher", "matcher is 'sift'; allowed are 'dense', 'edgeboxes'"),
        ({"matcher": "edgeboxes"}, "embed", "got no network; it needs `embed`"),
        (
            {"calibration": {"sift": {}}},
            "calibration",
            "calibration names 'sift'; allowed are dense, patches, edgeboxes",
        ),
        (
            {"calibration": {"dense": {"luck": 1.0}}},
            "calibration",
            "'dense' has 'luck': 1.0; allowed are finite numbers",
        ),
        ({"calibration": {"dense": {"bias": float("nan")}}}, "calibration", "'bias': nan; allowed are finite numbers"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, code, match):
    with pytest.raises(SettingsError, match=match) as caught:
        match_pairs([view(drawn(1)), view(drawn(2))], **arguments)
    assert caught.value.code == code


def test_edgeboxes_needs_pixels():
    with pytest.raises(SettingsError, match="got a view without pixels"):
        match_pairs([view(drawn(1)), view(drawn(2), pixels=False)], matcher="edgeboxes", embed=embed)


def test_views_of_two_bundles_are_refused():
    a = view(drawn(1))
    for other in (
        View(np.zeros((49, a.patches.shape[1]), np.float32), 10, 10, SIZE),
        View(a.patches, 10, 10, Size(256, 256)),
    ):
        with pytest.raises(SettingsError, match="all must share one square letterbox") as caught:
            match_pairs([a, other])
        assert caught.value.code == "views"


def test_a_bundles_calibration_replaces_the_default():
    views = [view(drawn(1)), view(drawn(1))]
    never = match_pairs(views, calibration={"dense": {"bias": -9.0}})[0]
    assert never.probability == pytest.approx(1 / (1 + np.exp(9)))
    assert all(set(values) <= {"bias", *STATISTICS[name]} for name, values in CALIBRATION.items())


# resolve -------------------------------------------------------------------------------------------------------------


def match(a, b, probability=0.9):
    return PairMatch(a, b, probability, Box(0, 0, 1, 1), Box(0, 0, 1, 1))


def resolved(pairs, p_noncompliant, primary=None, threshold=0.5):
    found = [match(*pair) for pair in pairs]
    results = {
        tuple(resolve(order, threshold, primary, np.array(p_noncompliant)).items())
        for order in itertools.permutations(found)
    }
    assert len(results) == 1, "the order of the matches does not matter"
    return dict(results.pop())


def test_the_primary_stays_whatever_its_noncompliance():
    assert resolved([(0, 1)], [0.1, 0.9], primary=1) == {0: 1}


def test_else_the_smaller_noncompliance_stays_and_of_equals_the_earlier():
    assert resolved([(0, 1)], [0.3, 0.2]) == {0: 1}
    assert resolved([(0, 1)], [0.2, 0.2]) == {1: 0}


def test_of_equal_noncompliance_the_finer_picture_stays():
    coarse, fine, whole = Box(0, 0, 300, 300), Box(0, 0, 400, 400), Box(50, 50, 310, 310)
    assert resolve([PairMatch(0, 1, 0.9, coarse, fine)], 0.5, None, np.array([0.10, 0.15])) == {0: 1}
    assert resolve([PairMatch(0, 1, 0.9, coarse, fine)], 0.5, 0, np.array([0.10, 0.15])) == {1: 0}, "but the primary"
    assert resolve([PairMatch(0, 1, 0.9, coarse, fine)], 0.5, None, np.array([0.10, 0.20])) == {1: 0}
    assert resolve([PairMatch(0, 1, 0.9, coarse, whole)], 0.5, None, np.array([0.15, 0.10])) == {1: 0}, "the earlier"


def test_three_that_beat_each_other_leave_the_least_noncompliant():
    coarse, fine = Box(0, 0, 300, 300), Box(0, 0, 400, 400)
    # 0 is clearly better than 2; 1 is finer than 0, and 2 finer than 1.
    ring = [PairMatch(0, 1, 0.9, coarse, fine), PairMatch(1, 2, 0.9, coarse, fine), match(0, 2)]
    for order in itertools.permutations(ring):
        assert resolve(order, 0.5, None, np.array([0.10, 0.15, 0.20])) == {1: 0, 2: 0}


def test_pairs_at_or_under_the_threshold_do_nothing():
    assert resolved([(0, 1, 0.5)], [0.3, 0.2]) == {}


def test_a_removed_image_takes_none_with_it():
    # 1 matches 0 and 2, but 0 and 2 do not match: 1 goes for 0, and 2 stays.
    assert resolved([(0, 1), (1, 2)], [0.1, 0.2, 0.3]) == {1: 0}
    # The middle one is best: both others go for it.
    assert resolved([(0, 1), (1, 2)], [0.2, 0.1, 0.3]) == {0: 1, 2: 1}


def test_a_cluster_leaves_one_and_the_kept_one_is_named():
    everyone = list(itertools.combinations(range(4), 2))
    assert resolved([(a, b) for a, b in everyone if (a, b) != (0, 3)][:5], [0.4, 0.3, 0.2, 0.1], primary=2) == {
        0: 2,
        1: 2,
        3: 2,
    }


def test_of_two_kept_matches_the_more_probable_is_named_then_the_better():
    assert resolved([(0, 2, 0.7), (1, 2, 0.8)], [0.1, 0.2, 0.3]) == {2: 1}
    assert resolved([(0, 2, 0.8), (1, 2, 0.8)], [0.2, 0.1, 0.3]) == {2: 1}


@pytest.mark.parametrize("seed", range(20))
def test_every_removed_image_names_a_kept_match_and_no_two_kept_ones_match(seed):
    rng = np.random.default_rng(seed)
    n = 9
    pairs = [match(a, b, float(rng.random())) for a, b in itertools.combinations(range(n), 2)]
    primary = int(rng.integers(n))
    gone = resolve(pairs, 0.7, primary, rng.random(n))
    linked = {frozenset((m.a, m.b)) for m in pairs if m.probability > 0.7}
    kept = set(range(n)) - set(gone)
    assert primary in kept
    assert set(gone.values()) <= kept
    assert all(frozenset(item) in linked for item in gone.items())
    assert not any(frozenset(pair) in linked for pair in itertools.combinations(kept, 2))


def test_foreign_positions_and_thresholds_are_refused():
    with pytest.raises(SettingsError, match="name positions 0 to 5, but there are 2 values") as caught:
        resolve([match(0, 5)], 0.5, None, np.zeros(2))
    assert caught.value.code == "resolve_index"
    with pytest.raises(SettingsError, match=r"the duplicate threshold is 1\.2; allowed is 0 to 1"):
        resolve([], 1.2, None, np.zeros(2))
