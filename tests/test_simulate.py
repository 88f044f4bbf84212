"""The simulator: every violation changes what it should, where it says, the same way for the same seed."""

import json
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from agpis.errors import SettingsError, TrainingError
from agpis.images import Size, decode, letterbox
from agpis.rulebook import Rulebook, Simulate, load_rulebook
from agpis.samples import BadSample, label_of, read_verdicts
from agpis.simulate import (
    KINDS,
    MULTI,
    PAIR,
    SHARES,
    SINGLE,
    VIOLATIONS,
    Catalogued,
    Mix,
    Stock,
    Style,
    approved,
    copied,
    images,
    load,
    recoloured,
    same_viewed,
    sequences,
    write_samples,
)
from agpis.simulate.drawing import ground, plain_to_see
from agpis.simulate.finish import finished, grained, jittered, printed, resampled, scaled
from agpis.simulate.framing import turned
from agpis.simulate.harmless import HARMLESS
from agpis.simulate.multi import shots_of
from agpis.simulate.pair import crop_box
from agpis.simulate.sequence_samples import allowed
from agpis.simulate.single import FURTHER
from agpis.simulate.stock import WHOLE
from agpis.simulate.violations import CHOICES, NUMBERS, simulated, unknown_rules

OVERLAID = ("banner", "badge", "watermark", "logo", "qr_code", "diagram", "artefact")


def drawn(seed: int, width: int = 300, height: int = 360, *, close: bool = False) -> np.ndarray:
    """A patterned product on white; `close` fills the frame with it."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 255, np.uint8)
    colour = tuple(int(c) for c in rng.integers(20, 200, 3))
    if close:
        picture[:] = colour
    else:
        w, h = int(width * rng.uniform(0.22, 0.3)), int(height * rng.uniform(0.25, 0.33))
        cv2.ellipse(picture, (width // 2, height // 2), (w, h), 0, 0, 360, colour, -1, cv2.LINE_AA)
    for _ in range(24):
        x, y = int(rng.uniform(0.35, 0.65) * width), int(rng.uniform(0.3, 0.7) * height)
        dot = tuple(int(c) for c in rng.integers(0, 255, 3))
        cv2.circle(picture, (x, y), int(rng.integers(3, 14)), dot, -1, cv2.LINE_AA)
    return picture


def product(number: int, views: tuple[str, ...], **more: str) -> Catalogued:
    pictures = tuple(drawn(100 * number + i, close=view == "detail") for i, view in enumerate(views))
    kind = ("Kettle", "Lamp", "Shirt", "Wagon")[number % 4]
    return Catalogued(
        sku=f"p{number}",
        title=f"{kind} {'ABCDEFGHIJKL'[number]}",
        category=kind,
        pictures=pictures,
        views=views,
        uris=tuple(f"{number}-{i}.jpg" for i in range(len(views))),
        source="drawn",
        **more,
    )


VIEWS = ("front", "detail", "back", "lifestyle", "detail", "side")


@pytest.fixture(scope="module")
def stock() -> Stock:
    several = [product(i, VIEWS) for i in range(8)]
    sisters = [product(i, ("front", "back"), style="S", color=color) for i, color in ((8, "Red"), (9, "Blue"))]
    return Stock([*several, *sisters, product(10, ("front",))])


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook("default")


def seen(pixels: np.ndarray) -> np.ndarray:
    """As the image graph sees it."""
    return letterbox(pixels, Size(224, 224)).astype(np.int16)


# Lists ---------------------------------------------------------------------------------------------------------------


def test_violations_are_those_of_the_rulebook(rulebook: Rulebook) -> None:
    simulated = {rule.id: rule for rule in rulebook.rules if rule.simulate}
    assert {rule.simulate.name for rule in simulated.values()} == set(VIOLATIONS)
    assert {rule.id for rule in rulebook.rules if rule.learned} == set(simulated)
    for table, scope in ((SINGLE, "single"), (PAIR, "pair"), (MULTI, "multi")):
        assert {rule.simulate.name for rule in simulated.values() if rule.scope == scope} == set(table)


def test_train_and_test_styles_share_nothing() -> None:
    train, test = Style.train(), Style.test()
    for field in ("banners", "badges", "watermarks", "brands", "interface", "prints", "units", "emblems"):
        assert not set(getattr(train, field)) & set(getattr(test, field)), field
    assert set(train.fonts) & set(test.fonts) <= {"opencv:uni"}  # the only one with Chinese letters


def test_ranges_of_the_default_rulebook_exist(rulebook: Rulebook) -> None:
    found = {scope: simulated(rulebook, scope) for scope in ("single", "pair", "multi")}
    assert sum(map(len, found.values())) == len(VIOLATIONS)
    assert set(NUMBERS) | set(CHOICES) <= set(VIOLATIONS)


def ranged(rulebook: Rulebook, rule: str, name: str, **ranges: tuple) -> Rulebook:
    """A rulebook of one rule with other ranges."""
    changed = rulebook.rule(rule).model_copy(update={"simulate": Simulate(name=name, ranges=ranges)})
    return Rulebook(id="mine", version="1", rules=(changed,))


@pytest.mark.parametrize(
    ("name", "ranges", "message"),
    [
        ("graffiti", {}, "rule 'banner': found simulate 'graffiti', allowed: banner, badge"),
        (
            "banner",
            {"girth": (1, 2)},
            r"rule 'banner', ranges of girth: found \['girth'\], allowed: height, opacity, side",
        ),
        (
            "banner",
            {"side": ("top", "behind")},
            r"ranges of side: found \['behind'\], allowed: top, bottom, left, right",
        ),
        ("banner", {"height": (0.1, "tall")}, r"ranges of height: found \[0.1, 'tall'\], allowed: \[low, high\]"),
    ],
)
def test_ranges_that_do_not_exist_are_refused(name: str, ranges: dict, message: str, rulebook: Rulebook) -> None:
    with pytest.raises(SettingsError, match=message):
        simulated(ranged(rulebook, "banner", name, **ranges), "single")


def test_ranges_decide(stock: Stock, rulebook: Rulebook) -> None:
    """A rulebook's ranges reach the picture: banners only at the left, of a given width."""
    only = ranged(rulebook, "banner", "banner", side=("left",), height=(0.2, 0.2), opacity=(1.0, 1.0))
    mix = Mix(broken=1.0, printed=0.0, close_ups=0.0)
    for s in images(stock, only, np.random.default_rng(0), Style.train(), 20, mix):
        box = s.boxes["banner"]
        assert box.x == 0
        assert abs(box.w / s.pixels.shape[1] - 0.2) < 0.02
        assert box.h == s.pixels.shape[0]
    crop = Style.train().ranged({"crop": (0.5, 0.5), "kind": ("crop",)})
    picture = drawn(0)
    for seed in range(10):
        copy = copied(picture, np.random.default_rng(seed), crop)
        assert copy.kind == "crop"
        assert abs(copy.box.w * copy.box.h / (picture.shape[0] * picture.shape[1]) - 0.5) < 0.01


# One image -----------------------------------------------------------------------------------------------------------


LOOKS = [Style.train(), Style.test(), Style.train().varied(1.0), Style.test().varied(1.0)]


@pytest.mark.parametrize("style", LOOKS, ids=["train", "test", "train further", "test further"])
@pytest.mark.parametrize("rule", SINGLE)
def test_single_changes_the_picture_visibly(rule: str, style: Style) -> None:
    style = style.having(tuple(drawn(i) for i in range(4)))
    for seed in range(12):
        picture = drawn(seed % 5 + 40)
        kept = picture.copy()
        result = SINGLE[rule](picture, np.random.default_rng(seed), style)
        assert (picture == kept).all()
        assert result.pixels.dtype == np.uint8
        assert result.pixels.ndim == 3
        before, after = seen(picture), seen(result.pixels)
        changed = np.abs(after - before).max(2) > 10
        assert changed.mean() > 0.002, f"seed {seed}: {changed.mean():.4f} of the picture changed"


@pytest.mark.parametrize("further", [0.0, 1.0])
@pytest.mark.parametrize("rule", SINGLE)
def test_single_is_decided_by_the_seed(rule: str, further: float) -> None:
    picture, style = drawn(1), Style.train().having((drawn(2), drawn(3))).varied(further)
    one, two = (SINGLE[rule](picture, np.random.default_rng(5), style) for _ in range(2))
    assert one.box == two.box
    assert one.where == two.where
    assert np.array_equal(one.pixels, two.pixels)
    others = [SINGLE[rule](picture, np.random.default_rng(seed), style).pixels for seed in range(6, 12)]
    assert any(o.shape != one.pixels.shape or (o != one.pixels).any() for o in others)


@pytest.mark.parametrize("further", [0.0, 1.0])
@pytest.mark.parametrize("rule", OVERLAID)
def test_box_covers_all_that_changed(rule: str, further: float) -> None:
    for seed in range(25):
        picture = drawn(seed)
        result = SINGLE[rule](picture, np.random.default_rng(seed), Style.train().varied(further))
        box = result.box
        assert box is not None
        assert box.w > 0
        assert box.h > 0
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.w <= picture.shape[1]
        assert box.y + box.h <= picture.shape[0]
        rest = np.abs(result.pixels.astype(int) - picture).max(2)
        rest[box.y : box.y + box.h, box.x : box.x + box.w] = 0
        assert rest.max() <= 2


def test_further_looks_are_for_images_alone(stock: Stock, rulebook: Rulebook) -> None:
    """Sequences are drawn from the first looks, as a benchmark made of them must stay as it is."""
    assert set(FURTHER) == set(SINGLE)
    assert Style.train().further == Style.test().further == 0.0
    picture, style = drawn(3), Style.train().having((drawn(1), drawn(2)))
    for rule, further in FURTHER.items():
        first, one, again = (
            SINGLE[rule](picture, np.random.default_rng(9), style.varied(share)).pixels for share in (0.0, 1.0, 1.0)
        )
        assert np.array_equal(one, again)
        assert first.shape != one.shape or (first != one).any(), rule
        rng = np.random.default_rng(9)
        rng.random()  # the draw between the looks
        assert np.array_equal(one, further(picture, rng, style).pixels)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_looks_keep_size_and_place(name: str) -> None:
    """What is printed on the product stays on it; what is done to ground or light leaves the picture's size."""
    changed = 0
    for seed in range(12):
        picture = np.sort(drawn(seed), axis=2)  # bluish: a colour like skin would be taken for a person
        kept, around = picture.copy(), ground(picture)
        out = HARMLESS[name][0](picture, around, np.random.default_rng(seed), Style.train())
        assert (picture == kept).all()
        assert out.shape == picture.shape
        assert out.dtype == np.uint8
        changed += bool((out != picture).any())
        if name not in ("lit", "backdrop", "crisp", "toned"):
            assert not (out != picture).any(2)[~around.mask].any()
    assert changed >= 5


def test_grid_and_grain_keep_what_is_seen() -> None:
    strengths = []
    for seed in range(8):
        picture, rng = drawn(seed), np.random.default_rng(seed)
        other_grid = resampled(picture, rng)
        assert 0.69 <= other_grid.shape[0] / picture.shape[0] <= 1.0
        assert np.abs(seen(other_grid) - seen(picture)).mean() < 4
        out = grained(picture, rng, 2.5)
        assert out.shape == picture.shape
        strengths.append(np.abs(out.astype(int) - picture).mean())
    assert 0.3 < max(strengths) < 2.5


def test_place_is_named() -> None:
    where = {SINGLE["logo"](drawn(1), np.random.default_rng(s), Style.train()).where for s in range(30)}
    assert {"top left", "top right", "bottom left", "bottom right"} <= where
    result = SINGLE["cut_off"](drawn(1), np.random.default_rng(0), Style.train())
    assert set(result.where.split()) <= {"top", "bottom", "left", "right"}


def test_cut_off_touches_the_frame_where_it_says() -> None:
    edges = {"left": np.s_[:, 0], "right": np.s_[:, -1], "top": np.s_[0], "bottom": np.s_[-1]}
    for seed in range(20):
        result = SINGLE["cut_off"](drawn(seed), np.random.default_rng(seed), Style.train())
        for side in result.where.split():
            assert (result.pixels[edges[side]].min(-1) < 230).any(), f"{side}, seed {seed}"


@pytest.mark.parametrize("further", [0.0, 1.0])
def test_artefacts_can_be_seen(further: float) -> None:
    flat = np.full((300, 300, 3), 250, np.uint8)
    cv2.ellipse(flat, (150, 150), (90, 120), 0, 0, 360, (70, 90, 130), -1, cv2.LINE_AA)  # plain: a smear would vanish
    rulebook = load_rulebook("default").rule("artefact").simulate
    style = Style.test().ranged(rulebook.ranges).varied(further)
    for seed in range(30):
        out = SINGLE["artefact"](flat, np.random.default_rng(seed), style).pixels
        assert plain_to_see(flat, out), seed
    faint = flat.copy()
    faint[100:160, 100:160] += 12
    assert not plain_to_see(flat, faint)


@pytest.mark.parametrize("further", [0.0, 1.0])
def test_what_runs_out_of_the_frame_is_cut_at_another_side_and_stays_in_it(further: float) -> None:
    picture = np.full((300, 240, 3), 250, np.uint8)
    cv2.rectangle(picture, (80, 40), (160, 300), (60, 80, 160), -1)  # as a model whose legs the frame cuts
    cv2.circle(picture, (120, 170), 25, (200, 60, 40), -1)
    assert ground(picture).touched() == {"bottom"}
    style = Style.train().varied(further)
    for seed in range(30):
        result = SINGLE["cut_off"](picture, np.random.default_rng(seed), style)
        assert "bottom" not in result.where
        assert (result.pixels[-1].max(-1) < 200).any()  # no strip of ground below it


def test_a_ball_is_turned_so_far_that_it_shows() -> None:
    ball = np.full((240, 240, 3), 255, np.uint8)
    cv2.circle(ball, (120, 120), 90, (200, 120, 40), -1, cv2.LINE_AA)
    marked = ball.copy()
    cv2.rectangle(marked, (60, 60), (180, 110), (10, 30, 90), -1)
    assert not turned(ball, np.ascontiguousarray(np.rot90(ball)))
    for further in (0.0, 1.0):
        for seed in range(10):
            out = SINGLE["rotation"](marked, np.random.default_rng(seed), Style.train().varied(further)).pixels
            assert turned(marked, out)
    assert "rotation" in unknown_rules(ball, "detail")
    assert "rotation" not in unknown_rules(ball, "front")


# Ground and the common way -------------------------------------------------------------------------------------------


def test_ground_finds_the_product() -> None:
    picture = drawn(3)
    around = ground(picture)
    truth = picture.min(2) < 240
    assert around.plain
    assert around.colour == (255, 255, 255)
    assert (around.mask & truth).sum() / (around.mask | truth).sum() > 0.95
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    assert not ground(noise).plain
    assert ground(noise).mask.any()


def test_print_stays_on_the_product() -> None:
    changed = 0
    for seed in range(20):
        picture = drawn(seed)
        out = printed(picture, np.random.default_rng(seed), Style.train())
        differs = (out != picture).any(2)
        changed += bool(differs.any())
        box = ground(picture).box
        differs[box.y : box.y + box.h, box.x : box.x + box.w] = False
        assert not differs.any()
    assert changed >= 10


def test_finished_scales_boxes_with_the_picture() -> None:
    picture = np.zeros((400, 300, 3), np.uint8)
    picture[100:200, 60:120] = 255
    for seed in range(8):
        out, fx, fy = finished(picture, np.random.default_rng(seed))
        box = scaled(ground(picture).box, fx, fy, out.shape)
        inside = out[box.y : box.y + box.h, box.x : box.x + box.w]
        outside = out.copy()
        outside[box.y : box.y + box.h, box.x : box.x + box.w] = 0
        assert inside.mean() > 200
        assert outside.max() < 128


def test_clean_and_broken_take_the_same_way(stock: Stock, rulebook: Rulebook) -> None:
    """High-frequency residue away from a logo tells nothing: AUC within chance of 200 + 200 pictures."""
    only_logo = Rulebook(id="logo", version="1", rules=(rulebook.rule("logo"),))
    residue = {}
    sizes = {}
    for broken in (0.0, 1.0):
        mix = Mix(broken=broken, printed=0.0, close_ups=0.0)
        samples = list(images(stock, only_logo, np.random.default_rng(7 + int(broken)), Style.train(), 200, mix))
        assert all(s.noncompliant == bool(broken) for s in samples)
        middles = [s.pixels[s.pixels.shape[0] // 3 : -s.pixels.shape[0] // 3] for s in samples]
        middles = [m[:, m.shape[1] // 3 : -m.shape[1] // 3].astype(np.float32) for m in middles]
        residue[broken] = np.array([np.abs(m - cv2.GaussianBlur(m, (0, 0), 1)).mean() for m in middles])
        sizes[broken] = np.mean([max(s.pixels.shape) for s in samples])
    auc = (residue[1.0][:, None] > residue[0.0][None]).mean()
    assert 0.4 < auc < 0.6  # standard error of a chance AUC at 200 + 200 is 0.029
    assert abs(sizes[0.0] - sizes[1.0]) < 15


def test_jitter_leaves_the_product_alone() -> None:
    picture = drawn(2)
    for seed in range(10):
        out = jittered(picture, np.random.default_rng(seed))
        assert ground(out).plain
        assert abs(ground(out).mask.sum() / ground(picture).mask.sum() - 1) < 0.03


# Two images ----------------------------------------------------------------------------------------------------------


def test_crop_geometry_is_exact() -> None:
    picture = drawn(4)
    shares = []
    for seed in range(40):
        copy = copied(picture, np.random.default_rng(seed), Style.train(), "crop")
        box = copy.box
        part = picture[box.y : box.y + box.h, box.x : box.x + box.w]
        assert copy.pixels.shape == part.shape
        assert np.abs(copy.pixels.astype(int) - part).mean() < 3  # JPEG 92 only
        assert (copy.placed.x, copy.placed.y, copy.placed.w, copy.placed.h) == (0, 0, box.w, box.h)
        shares.append(box.w * box.h / (picture.shape[0] * picture.shape[1]))
    assert 0.28 < min(shares) < 0.4
    assert 0.65 < max(shares) < 0.82


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 300), (500, 20)])
def test_crop_box_lies_inside_whatever_the_size(width: int, height: int) -> None:
    for seed in range(50):
        box = crop_box(width, height, np.random.default_rng(seed))
        assert 0 <= box.x <= box.x + box.w <= width
        assert 0 <= box.y <= box.y + box.h <= height
        assert box.w >= 1
        assert box.h >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_copies_show_their_region_where_they_say(kind: str) -> None:
    for seed in range(12):
        picture = drawn(seed)
        copy = copied(picture, np.random.default_rng(seed), Style.train(), kind)
        box, placed = copy.box, copy.placed
        assert placed.x + placed.w <= copy.pixels.shape[1]
        assert placed.y + placed.h <= copy.pixels.shape[0]
        source = picture[box.y : box.y + box.h, box.x : box.x + box.w]
        found = copy.pixels[placed.y : placed.y + placed.h, placed.x : placed.x + placed.w]
        if copy.mirrored:
            found = found[:, ::-1]
        a, b = (cv2.resize(np.ascontiguousarray(p), (48, 48)).mean(2).ravel() for p in (source, found))
        assert np.corrcoef(a, b)[0, 1] > 0.93
        assert copy.mirrored == ("mirrored" in copy.steps)
        assert (len(copy.steps) > 1) == (kind == "combined")


def test_unknown_kind_of_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="found the kind 'torn', allowed are recoded, crop"):
        copied(drawn(0), np.random.default_rng(0), Style.train(), "torn")


def test_recoloured_changes_the_product_and_not_the_ground() -> None:
    for seed in range(10):
        picture = drawn(seed)
        out = recoloured(picture, np.random.default_rng(seed))
        mask = ground(picture).mask
        far = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0
        difference = np.abs(out.astype(int) - picture).max(2)
        assert difference[mask].mean() > 20
        assert difference[far].max() == 0


def test_same_view_stays_close() -> None:
    for seed in range(10):
        picture = drawn(seed)
        out = same_viewed(picture, np.random.default_rng(seed))
        assert out.shape == picture.shape
        a, b = (cv2.resize(p, (12, 12), interpolation=cv2.INTER_AREA).mean(2).ravel() for p in (picture, out))
        assert 0.8 < np.corrcoef(a, b)[0, 1] < 0.9999


# Drafts --------------------------------------------------------------------------------------------------------------


def broken(rule: str, stock: Stock, k: int, seed: int):
    """A draft and what the rule made of it; products that do not lend themselves are passed over."""
    rng = np.random.default_rng(seed)
    for _ in range(60):
        draft = approved(stock.products[int(rng.integers(8))], k, rng)
        out = draft and VIOLATIONS[rule](draft, stock, rng, Style.train())
        if out is not None:
            return draft, out
    raise AssertionError(f"{rule} was never possible")


@pytest.mark.parametrize("rule", VIOLATIONS)
def test_violation_changes_the_sequence(rule: str, stock: Stock) -> None:
    for seed in range(6):
        draft, out = broken(rule, stock, 3, seed)
        same = len(draft.shots) == len(out.shots) and all(
            np.array_equal(a.pixels, b.pixels) for a, b in zip(draft.shots, out.shots, strict=True)
        )
        assert not same or out.title != draft.title
        assert len(out.shots) == 3
        assert out.index is None or 0 <= out.index < 3
        if rule in PAIR:
            assert out.index >= 1


def test_approved_sequences_start_whole_and_vary(stock: Stock) -> None:
    rng = np.random.default_rng(0)
    for item in stock.products[:8]:
        draft = approved(item, 3, rng)
        assert draft.shots[0].view in WHOLE
        assert len({shot.view for shot in draft.shots}) == 3
    assert approved(stock.products[10], 2, rng) is None


def test_wrong_order_has_the_whole_product_later(stock: Stock) -> None:
    for seed in range(10):
        _, out = broken("wrong_order", stock, 3, seed)
        assert out.shots[0].view not in WHOLE
        assert any(shot.view in WHOLE for shot in out.shots[1:])


def test_incomplete_primary_has_no_whole_product_later(stock: Stock) -> None:
    for seed in range(10):
        _, out = broken("primary_incomplete", stock, 3, seed)
        assert all(shot.view not in WHOLE for shot in out.shots)
        assert any(shot.view != "detail" for shot in out.shots)


def test_missing_views_are_details_only(stock: Stock) -> None:
    for seed in range(10):
        _, out = broken("missing_views", stock, 3, seed)
        assert [shot.view for shot in out.shots] == ["detail"] * 3


def test_redundant_views_repeat_a_view_behind_a_whole_primary(stock: Stock) -> None:
    for seed in range(10):
        _, out = broken("redundant_views", stock, 3, seed)
        assert out.shots[0].view in WHOLE
        assert out.shots[1].view == out.shots[2].view


def test_other_title_comes_from_where_it_says(stock: Stock) -> None:
    notes = set()
    for seed in range(30):
        draft, out = broken("title_mismatch", stock, 2, seed)
        donor = next(p for p in stock.products if p.title == out.title)
        assert (donor.category == draft.product.category) == (out.note == "same_category")
        notes.add(out.note)
    assert notes == {"same_category", "other_category"}


def test_sister_gives_her_picture_of_the_same_view(stock: Stock) -> None:
    red = stock.products[8]
    assert [p.sku for p in stock.sisters(red)] == ["p9"]
    rng = np.random.default_rng(1)
    outs = [VIOLATIONS["different_colour"](approved(red, 2, rng), stock, rng, Style.train()) for _ in range(12)]
    sister = [o for o in outs if o.note == "sister"]
    assert sister
    assert all(np.array_equal(o.shots[1].pixels, stock.products[9].pictures[1]) for o in sister)


# Samples -------------------------------------------------------------------------------------------------------------


def test_images_carry_what_is_known(stock: Stock, rulebook: Rulebook) -> None:
    samples = list(images(stock, rulebook, np.random.default_rng(3), Style.train(), 260))
    assert {rule for s in samples for rule in s.rules} == set(rulebook.single_rules)
    for s in samples:
        assert not s.rules & s.unknown
        assert set(s.boxes) <= s.rules
        height, width = s.pixels.shape[:2]
        assert all(b.x >= 0 and b.y >= 0 and b.x + b.w <= width and b.y + b.h <= height for b in s.boxes.values())
        if s.rules:
            assert s.primary == 0.0
        if s.primary == 1.0:
            assert s.view in WHOLE
        if s.view == "detail":
            assert s.primary == 0.0
            assert "cut_off" in s.rules | s.unknown
    share = np.mean([s.noncompliant for s in samples])
    assert 0.42 < share < 0.58
    assert any(len(s.rules) == 2 for s in samples)


def test_rules_of_a_role_are_broken_in_its_places_alone(stock: Stock, rulebook: Rulebook) -> None:
    roles = {rule.id: rule.role for rule in rulebook.rules}
    single = {"single": 1.0}
    found = list(sequences(stock, rulebook, np.random.default_rng(3), Style.train(), single, n=150))
    first = [s for s in found if roles[s.rule] == "main"]
    assert len(first) > 15
    assert {s.image_index for s in first} == {0}
    assert {s.image_index for s in found if roles[s.rule] == "any"} > {0, 1}


def test_pictures_of_which_no_rule_speaks_are_hard_negatives(stock: Stock, rulebook: Rulebook) -> None:
    spared = [rule for rule in rulebook.rules if rule.role == "main" and rule.simulate]
    shots = tuple(shots_of(stock.products[0])[i] for i in (0, 2, 5))
    draft = replace(approved(stock.products[0], 3, np.random.default_rng(0)), shots=shots)
    for seed, rule in enumerate(spared):
        rng = np.random.default_rng(seed)
        out = allowed(draft, rule, stock, rng, Style.train())
        same = [a.pixels is b.pixels for a, b in zip(draft.shots, out.shots, strict=True)]
        assert same[0], rule.id
        assert same.count(False) == 1, rule.id
        assert (out.index, out.rule) == (draft.index, draft.rule)


def test_same_seed_same_samples(stock: Stock, rulebook: Rulebook) -> None:
    def run(seed: int) -> list:
        rng = np.random.default_rng(seed)
        return [*images(stock, rulebook, rng, Style.train(), 12), *sequences(stock, rulebook, rng, Style.train(), n=12)]

    one, two, other = run(4), run(4), run(5)
    for a, b in zip(one[:12], two[:12], strict=True):
        assert a.rules == b.rules
        assert np.array_equal(a.pixels, b.pixels)
    for a, b in zip(one[12:], two[12:], strict=True):
        assert (a.rule, a.feedback, a.title, a.box) == (b.rule, b.feedback, b.title, b.box)
        assert all(np.array_equal(p, q) for p, q in zip(a.pictures, b.pictures, strict=True))
    assert any(a.sku != b.sku or a.rules != b.rules for a, b in zip(one[:12], other[:12], strict=True))


def test_sequences_keep_shares_and_name_the_fault(stock: Stock, rulebook: Rulebook) -> None:
    samples = list(sequences(stock, rulebook, np.random.default_rng(0), Style.train(), n=300, language="both"))
    scope = {rule.id: rule.scope for rule in rulebook.rules} | {"qualified": "qualified"}
    for name, share in SHARES.items():
        assert abs(np.mean([scope[s.rule] == name for s in samples]) - share) < 0.08
    for s in samples:
        assert len(s.pictures) in (2, 3)
        assert len(s.candidates) >= len(s.pictures)
        if s.rule == "qualified":
            assert s.feedback == "yes"
            assert s.image_index is None
            continue
        assert s.feedback
        assert "{" not in s.feedback
        if s.language == "zh":
            assert any(ord(letter) > 0x2E80 for letter in s.feedback)
        if s.box is not None:
            height, width = s.pictures[s.image_index].shape[:2]
            assert s.box.x + s.box.w <= width
            assert s.box.y + s.box.h <= height
    assert {s.language for s in samples} == {"en", "zh"}


def test_feedback_names_the_image(stock: Stock, rulebook: Rulebook) -> None:
    shares = {"single": 1.0}
    samples = list(sequences(stock, rulebook, np.random.default_rng(2), Style.train(), shares, n=80))
    named = [s for s in samples if any(word in s.feedback for word in ("first", "second", "third"))]
    assert len(named) > 40
    assert all(("first", "second", "third")[s.image_index] in s.feedback for s in named)


def test_sequences_have_no_end_by_themselves(stock: Stock, rulebook: Rulebook) -> None:
    endless = sequences(stock, rulebook, np.random.default_rng(0), Style.train(), {"qualified": 1}, k_range=(2, 2))
    assert len(list(islice(endless, 25))) == 25


def test_written_samples_are_verdicts(stock: Stock, rulebook: Rulebook, tmp_path) -> None:
    made = list(sequences(stock, rulebook, np.random.default_rng(1), Style.train(), {"qualified": 1, "pair": 2}, n=12))
    path = write_samples(made, tmp_path / "out")
    verdicts = list(read_verdicts(path))
    assert not [v for v in verdicts if isinstance(v, BadSample)]
    assert [label_of(v, rulebook) for v in verdicts] == [s.rule for s in made]
    # The words alone must lead to the same rule: they are all a real reviewer gives.
    unnamed = [label_of(replace(v, rules=()), rulebook) for v in verdicts]
    assert unnamed == [s.rule for s in made]
    for verdict, sample in zip(verdicts, made, strict=True):
        assert verdict.sku == f"drawn/{sample.sku}"
        assert len(verdict.candidates) == len(sample.candidates)
        for uri, picture in zip(verdict.sequence, sample.pictures, strict=True):
            again = decode((tmp_path / "out" / uri).read_bytes()).pixels
            assert again.shape == picture.shape
            assert np.abs(again.astype(int) - picture).mean() < 4


# Reading catalogues --------------------------------------------------------------------------------------------------


def saved(folder, products: list[dict]) -> str:
    """A catalogue on disk; pictures are drawn 1200 x 1440."""
    folder.mkdir()
    for row in products:
        for i, uri in enumerate(row["images"]):
            if "missing" not in uri:
                cv2.imwrite(str(folder / uri), drawn(i, 1200, 1440)[..., ::-1])
    path = folder / "catalog.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in products) + "\n\n")
    return str(path)


def test_load_reduces_and_leaves_out_what_cannot_be_read(tmp_path) -> None:
    path = saved(
        tmp_path / "shop",
        [
            {"sku": 1, "title": "A", "images": ["a.jpg", "missing.jpg", "b.jpg"], "views": ["front", "back", "side"]},
            {"sku": "2", "title": "B", "images": ["missing2.jpg"]},
            {"sku": "3", "title": "C", "images": ["c.jpg", "d.jpg"]},
        ],
    )
    one, three = load([path], longest=200)
    assert (one.sku, one.source, one.views, one.uris) == ("1", "shop", ("front", "side"), ("a.jpg", "b.jpg"))
    assert one.pictures[0].shape == (200, 167, 3)
    assert three.views == ("front", "unknown")
    assert one.detail is not None
    assert max(one.detail.shape) == 200
    assert load([path], details=False)[0].detail is None


def test_load_names_a_bad_line(tmp_path) -> None:
    path = tmp_path / "catalog.jsonl"
    path.write_text('{"sku": "1", "images": []}\n{"sku": "2"}\n')
    with pytest.raises(TrainingError, match=r"catalog.jsonl, line 2: found '\{\"sku\": \"2\"\}', wanted a JSON object"):
        load([path])


def test_nothing_to_simulate_from_is_said(rulebook: Rulebook) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(TrainingError, match="found no product with a readable picture"):
        Stock([])
    alone = Stock([product(1, ("front",))])
    with pytest.raises(TrainingError, match="found no product with two pictures"):
        next(sequences(alone, rulebook, rng, Style.train()))
    two = Stock([product(1, ("front", "back"))])
    only = Rulebook(id="x", version="1", rules=(rulebook.rule("different_product"),))
    with pytest.raises(SettingsError, match="found no product among 1 that can break the rule 'different_product'"):
        list(sequences(two, only, rng, Style.train(), {"pair": 1}, k_range=(2, 2), n=3))
    with pytest.raises(SettingsError, match=r"found shares .*, allowed are numbers >= 0 of qualified, single, pair"):
        next(sequences(two, rulebook, rng, Style.train(), {"triple": 1}))
    with pytest.raises(SettingsError, match="found no simulated single rule in the rulebook 'x'"):
        next(images(two, only, rng, Style.train(), 1))


@pytest.mark.shared
def test_real_products_lend_themselves_to_every_rule(shared_data, rulebook: Rulebook) -> None:
    stock = Stock(load([shared_data / "kickstart" / "catalog.jsonl", shared_data / "oxid" / "catalog.jsonl"]))
    assert len(stock.products) == 89
    shares = {"single": 0.3, "pair": 0.3, "multi": 0.4}
    samples = list(sequences(stock, rulebook, np.random.default_rng(0), Style.test(), shares, n=250))
    assert {s.rule for s in samples} == set(rulebook.classes[1:-1])
    assert all(len(shots_of(p)) == len(p.pictures) for p in stock.products)
