"""Nouns in titles, and whether pictures show what they name."""

import numpy as np
import pytest
import torch

from agpis.bundle import open_bundle
from agpis.catalogue import read
from agpis.console import sample_catalogue
from agpis.images import decode, letterbox
from agpis.models.things import Things
from agpis.models.towers import EfficientNetLite0, imagenet_classifier
from agpis.titles import Titles, nouns, stem


def test_the_list_is_sound() -> None:
    lines = nouns()
    assert len(lines) > 200
    for noun in lines:
        assert noun.classes, noun
        assert set(noun.classes) <= set(range(1000)), noun
        assert len(set(noun.classes)) == len(noun.classes), noun
        for word in noun.words:
            assert word == word.lower().strip()
            assert word
            assert len(word.split()) <= 3, word
    assert len({noun.words for noun in lines}) == len(lines)


@pytest.mark.parametrize(
    ("many", "one"),
    [("watches", "watch"), ("jeans", "jean"), ("dishes", "dish"), ("boxes", "box"), ("batteries", "battery"),
     ("dresses", "dress"), ("dress", "dress"), ("glass", "glass"), ("glasses", "glass"), ("gas", "gas")],
)  # fmt: skip
def test_plurals_are_their_singular(many: str, one: str) -> None:
    assert stem(many) == stem(one)


TITLES = Titles([("bottle", "water bottle"), ("water", "juice"), ("t shirt", "tee"), ("shirt", "tee")])


def test_the_longest_term_counts_and_its_words_no_more() -> None:
    assert TITLES.named("Steel Water-Bottles, 0.5 l") == (0,)
    assert TITLES.named("Water in a bottle") == (1, 0)
    assert TITLES.named("Men's T-Shirt") == (2,)
    assert TITLES.named("Tee Shirt") == (2, 3)
    assert TITLES.named("Waterloo") == ()
    assert TITLES.named("") == ()


def test_what_no_noun_names_says_nothing() -> None:
    things = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 4.0, -1.0, -1.0]], np.float32)
    fits = TITLES.fits("Blue bottle of juice", "", things)
    assert fits is not None
    np.testing.assert_allclose(fits, [1.0, 4.0])
    by_category = TITLES.fits("Norda 500", "Shirts > Men", things)
    assert by_category is not None
    np.testing.assert_allclose(by_category, [3.0, -1.0])
    assert TITLES.fits("Norda 500", "Sundries", things) is None


def test_things_are_the_classifiers_probabilities_by_line() -> None:
    torch.manual_seed(0)
    tower = EfficientNetLite0().eval()
    weight, bias = torch.randn(1000, 1280) * 0.02, torch.randn(1000) * 0.1
    found = Things(tower, weight, bias, [(3, 5), (5,), tuple(range(1000))])
    grid = torch.rand(2, 112, 4, 4)
    with torch.inference_mode():
        p = torch.softmax(tower.late(grid).mean((2, 3)) @ weight.T + bias, dim=1)
        shares = found.shares(grid)
        torch.testing.assert_close(shares, torch.stack([p[:, 3] + p[:, 5], p[:, 5], torch.ones(2)], 1))
        found.settle([grid])
        torch.testing.assert_close(found(grid)[:, 2], torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.usual, shares.mean(0))
    tower.head.conv.bias.data += 1.0  # trained further, the tower does not take the copy along
    torch.testing.assert_close(found.shares(grid), shares)


def test_the_classes_are_those_of_imagenet() -> None:
    weight, bias = imagenet_classifier()
    assert (tuple(weight.shape), tuple(bias.shape)) == ((1000, 1280), (1000,))


def test_the_starter_tells_the_samples_titles_from_each_others() -> None:
    bundle = open_bundle(threads=1)
    assert bundle.manifest.things is not None
    assert bundle.manifest.things.words == tuple(noun.words for noun in nouns())
    products = list(read(sample_catalogue()))
    own, others = [], []
    for product in products:
        pixels = decode((sample_catalogue().parent / product.images[0].uri).read_bytes()).pixels
        things = bundle.image(letterbox(pixels, bundle.size)[None]).things
        assert things is not None
        for other in products:
            fits = bundle.titled(other.title, "", list(things))
            if fits is not None:
                (own if other is product else others).append(float(fits[0]))
    assert len(own) >= 8
    right = np.mean([a > b for a in own for b in others])
    assert right > 0.7, right
