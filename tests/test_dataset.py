"""Samples as arrays: distinct images, pixels as in serving, tokens that survive a kill, labels of single images."""

import json
import multiprocessing
import os
import pickle
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agpis import image_tokens
from agpis.data import Image, Verdict
from agpis.dataset import (
    Cached,
    Pixels,
    cached_tokens,
    image_labels,
    label_arrays,
    primary_groups,
    read_image_labels,
    sequence_data,
)
from agpis.errors import OutputError, TrainingError
from agpis.fetch import Fetcher
from agpis.images import Limits, Size
from agpis.pixels import THREADS
from agpis.prepare import Preparer
from agpis.rulebook import Rulebook, load_rulebook
from agpis.samples import BadSample, Labelled, labelled, split_of
from tests.conftest import draw_photo, save_photo
from tests.image_server import ImageServer, picture_bytes

SIZE = 64


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook("default")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Twelve pictures, of which 3, 7 and 10 cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        save_photo(folder / f"{i}.jpg", draw_photo(i, size=(600, 480) if i % 2 else (400, 1000)))
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[:2000])
    (folder / "7.jpg").unlink()
    (folder / "10.jpg").write_text("<html><body>404</body></html>")
    return [Image(f"{i}.jpg", str(folder)) for i in range(12)]


BAD = {3: "truncated", 7: "not_found", 10: "html"}


def verdict(**values: object) -> Verdict:
    return Verdict(**{"sku": "1", "title": "Kettle", "sequence": ("a.jpg",), "accepted": False, **values})


def tokens_of(pixels: np.ndarray) -> np.ndarray:
    """Means of quarters, uint8 (N, S, S, 3) to float32 (N, 4, 3)."""
    half = pixels.shape[1] // 2
    parts = [pixels[:, y : y + half, x : x + half].mean((1, 2)) for y in (0, half) for x in (0, half)]
    return np.stack(parts, 1).astype(np.float32)


# Sequences -----------------------------------------------------------------------------------------------------------


def test_images_are_distinct_by_location(rulebook: Rulebook) -> None:
    samples = labelled(
        [
            verdict(sku="a", sequence=("1.jpg", "2.jpg"), base="/shop", accepted=True, split="train", category="Cups"),
            verdict(sku="b", sequence=("/shop/2.jpg", "3.jpg"), base="/other", rules=("banner",), split="test"),
            verdict(sku="c", sequence=("1.jpg",), base="/shop", feedback="hm", split="validation"),
        ],
        rulebook,
    )
    data = sequence_data(samples, rulebook, 3)
    assert [image.location for image in data.images] == ["/shop/1.jpg", "/shop/2.jpg", "/other/3.jpg"]
    assert data.index.tolist() == [[0, 1, -1], [1, 2, -1], [0, -1, -1]]
    assert data.index.dtype == data.labels.dtype == np.int64
    assert data.mask.sum(1).tolist() == [2, 2, 1]
    assert [rulebook.classes[label] for label in data.labels] == ["qualified", "banner", "other"]
    assert data.feedbacks == ("yes", "", "hm")
    assert data.categories == ("Cups", "", "")
    assert data.skus == ("a", "b", "c")
    assert data.splits == ("train", "test", "validation")


@pytest.mark.parametrize(
    ("length", "blamed", "k", "kept"),
    [
        (5, None, 3, [0, 1, 2]),
        (5, 4, 3, [0, 1, 4]),
        (5, 1, 3, [0, 1, 2]),
        (5, 0, 2, [0, 1]),
        (5, 3, 2, [0, 3]),
        (5, 3, 1, [3]),
        (5, None, 1, [0]),
        (2, 1, 3, [0, 1, -1]),
        (3, 2, 3, [0, 1, 2]),
    ],
)
def test_longer_sequences_keep_the_first_and_the_blamed_image(
    length: int, blamed: int | None, k: int, kept: list[int], rulebook: Rulebook
) -> None:
    uris = tuple(f"{i}.jpg" for i in range(length))
    given = verdict(sequence=uris, image_index=blamed, rules=("banner",))
    data = sequence_data(labelled([given], rulebook), rulebook, k)
    found = [int(data.images[i].uri[0]) if i >= 0 else -1 for i in data.index[0]]
    assert found == kept


def test_selections_leave_the_images_where_they_are(rulebook: Rulebook) -> None:
    splits = ["train", "test", "train", "validation"]
    sequences = [("a", "b"), ("b", "c"), ("c",), ("d", "a")]
    verdicts = [verdict(sku=str(i), sequence=sequences[i], split=splits[i]) for i in range(4)]
    data = sequence_data(labelled(verdicts, rulebook), rulebook, 2)
    assert data.where("train").skus == ("0", "2")
    assert data.where("train").images == data.images
    assert data.where("train").index.tolist() == [[0, 1], [2, -1]]
    ok = np.array([True, True, False, True])  # c cannot be read
    assert data.kept(ok).skus == ("0", "3")
    assert data.kept(np.array([False, True, True, True])).skus == ("1", "2")
    assert data.kept(np.zeros(4, bool)).index.shape == (0, 2)
    assert data.take([3, 0]).skus == ("3", "0")
    assert data.take(np.array([False, True, False, True])).skus == ("1", "3")
    with pytest.raises(TrainingError, match="found split 'dev', allowed are train, validation, test"):
        data.where("dev")
    with pytest.raises(ValueError, match=r"ok has shape \(3,\), wanted \(4,\)"):
        data.kept(np.zeros(3, bool))


def test_what_cannot_be_meant_is_refused(rulebook: Rulebook) -> None:
    with pytest.raises(TrainingError, match="found k 0, allowed is 1 or more"):
        sequence_data([], rulebook, 0)
    foreign = [Labelled(verdict(), "house_rule", "", "train")]
    with pytest.raises(TrainingError, match="found labels house_rule, which are no classes of the rulebook 'default'"):
        sequence_data(foreign, rulebook, 3)
    with pytest.raises(TrainingError, match="found size 0, threads 4; both must be 1 or more"):
        Pixels([], 0, threads=4)
    assert len(sequence_data([], rulebook, 3)) == 0


# Pixels --------------------------------------------------------------------------------------------------------------


def test_pixels_are_those_of_serving(photos: list[Image], rulebook: Rulebook) -> None:
    rows = np.array([5, 0, 3, 11, 7, 5, 10])
    with Pixels(photos, SIZE) as pixels, Fetcher() as fetcher:
        found, ok = pixels(rows)
        prepare = Preparer(rulebook, Size(SIZE, SIZE), fetcher, limits=Limits())
        assert found.shape == (7, SIZE, SIZE, 3)
        assert found.dtype == np.uint8
        assert ok.tolist() == [True, True, False, True, False, True, False]
        for place in np.flatnonzero(ok):
            served = prepare(photos[rows[place]]).pixels
            assert served is not None
            assert np.array_equal(found[place], served)
        assert {int(row): pixels.bad(row).code for row in rows[~ok]} == BAD
        assert pixels.bad(7).uri == "7.jpg"
        assert "no such file" in pixels.bad(7).message


def test_pixels_of_no_rows(photos: list[Image]) -> None:
    with Pixels(photos, SIZE) as pixels:
        found, ok = pixels([])
    assert found.shape == (0, SIZE, SIZE, 3)
    assert ok.shape == (0,)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pixels_work_in_other_processes(method: str, photos: list[Image]) -> None:
    """As DataLoader workers get them: forked with the parent's threads gone, or pickled."""
    with Pixels(photos, SIZE, threads=3) as pixels:
        here, ok = pixels(np.arange(12))
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            there = list(pool.map(pixels, [np.arange(0, 6), np.arange(6, 12)]))
        assert np.array_equal(np.concatenate([o for _, o in there]), ok)
        assert np.array_equal(np.concatenate([p for p, _ in there])[ok], here[ok])
        again = pickle.loads(pickle.dumps(pixels))
        assert again.bad(10).code == "html"  # not read by this object: read now
        assert again.bad(0).code == "read_failed"  # it can be read now
        assert (again.size, again.threads, len(again)) == (SIZE, 3, 12)
        again.close()


def test_pixels_from_http_and_from_bytes() -> None:
    with ImageServer() as server:
        images = [Image("ok.jpg", server.url("")), Image(server.url("/404.jpg")), Image("x", data=picture_bytes())]
        with Pixels(images, SIZE, Limits(retries=0)) as pixels:
            found, ok = pixels([0, 1, 2])
            assert ok.tolist() == [True, False, True]
            assert np.array_equal(found[0], found[2])
            assert pixels.bad(1).code == "not_found"


# Tokens --------------------------------------------------------------------------------------------------------------


def never(pixels: np.ndarray) -> np.ndarray:
    raise AssertionError("the file should have been read")


class Counting:
    """tokens_of, counting pictures; `stop` is called instead once there are more than `limit`."""

    def __init__(self, limit: int = 1000, stop: Callable[[], None] = lambda: None) -> None:
        self.count, self.limit, self.stop = 0, limit, stop

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.count += len(pixels)
        if self.count > self.limit:
            self.stop()
        return tokens_of(pixels)


def expected(photos: list[Image]) -> np.ndarray:
    with Pixels(photos, SIZE) as pixels:
        drawn, ok = pixels(np.arange(len(photos)))
    return np.where(ok[:, None, None], tokens_of(drawn), 0.0).astype(np.float16)


def check(found: Cached, photos: list[Image]) -> None:
    assert isinstance(found.tokens, np.memmap)
    assert found.tokens.dtype == np.float16
    assert np.array_equal(found.tokens, expected(photos))
    assert np.flatnonzero(~found.ok).tolist() == list(BAD)
    assert [bad.code for bad in found.bad] == list(BAD.values())
    assert sorted(path.suffix for path in found.path.parent.iterdir()) == [".json", ".lock", ".npy"]


def test_tokens_are_made_once(photos: list[Image], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(cached_tokens(photos, tokens_of, SIZE, tmp_path / "new" / "cache", "m", batch=5), photos)
    assert "tokens 12/12  3 unreadable" in capsys.readouterr().err
    again = cached_tokens(photos, never, SIZE, tmp_path / "new" / "cache", "m", batch=2)
    check(again, photos)
    assert capsys.readouterr().err == ""
    packed = pickle.dumps(again)
    assert len(packed) < 500  # the path, not the array
    check(pickle.loads(packed), photos)
    with pytest.raises(ValueError, match="read-only"):
        again.tokens[0] = 0


def test_another_model_size_or_picture_makes_another_file(photos: list[Image], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    save_photo(path, draw_photo(1))
    images = [*photos[:2], Image(str(path))]

    def made(images: list[Image], size: int, key: str) -> int:
        counting = Counting()
        cached_tokens(images, counting, size, tmp_path / "cache", key, progress=False)
        return counting.count

    assert made(images, SIZE, "m") == 3
    assert made(images, SIZE, "m") == 0
    assert made(images, SIZE, "other") == 3
    assert made(images, SIZE * 2, "m") == 3
    assert made(images[::-1], SIZE, "m") == 3
    os.utime(path, ns=(0, 0))  # another picture in the same place
    assert made(images, SIZE, "m") == 3


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_goes_on_where_it_stopped(
    torn: bool, photos: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_tokens, "COMMIT", 0.0)

    def killed() -> None:
        stop = Counting(6, lambda: os._exit(9))  # as SIGKILL: nothing is cleaned up
        cached_tokens(photos, stop, SIZE, tmp_path, "m", batch=2, progress=False)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == 9
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".journal", ".lock", ".part"]
    if torn:
        journal = next(tmp_path.glob("*.journal"))
        journal.write_bytes(journal.read_bytes()[:-7])
    rest = Counting()
    check(cached_tokens(photos, rest, SIZE, tmp_path, "m", batch=2, progress=False), photos)
    assert rest.count == (4 if torn else 3)  # 0, 1, 2, 4, 5 and 6 were there, the last in the line that is torn


def test_an_error_of_the_model_keeps_what_was_made(photos: list[Image], tmp_path: Path) -> None:
    def fails() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_tokens(photos, Counting(6, fails), SIZE, tmp_path, "m", batch=2, progress=False)
    rest = Counting()
    check(cached_tokens(photos, rest, SIZE, tmp_path, "m", progress=False), photos)
    assert rest.count == 3


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".npy", b""),
        (".npy", b"no array"),
        (".npy", -10),
        (".json", b"{"),
        (".json", b"[]"),
        (".json", b'{"shape": [12, 4, 3], "bad": []}'),
        (".json", b'{"name": "tokens-of-others", "shape": [12, 4, 3], "bad": []}'),
    ],
)
def test_a_foreign_or_cut_file_is_made_anew(
    suffix: str, content: bytes | int, photos: list[Image], tmp_path: Path
) -> None:
    path = cached_tokens(photos, tokens_of, SIZE, tmp_path, "m", progress=False).path.with_suffix(suffix)
    path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:content])
    counting = Counting()
    check(cached_tokens(photos, counting, SIZE, tmp_path, "m", progress=False), photos)
    assert counting.count == 9


@pytest.mark.parametrize("content", [b"", b"no array", "float32", "other"])
def test_a_foreign_part_is_made_anew(content: bytes | str, photos: list[Image], tmp_path: Path) -> None:
    path = cached_tokens(photos, tokens_of, SIZE, tmp_path, "m", progress=False).path
    for suffix in (".json", ".npy"):
        path.with_suffix(suffix).unlink()
    path.with_suffix(".journal").write_text(json.dumps({"rows": list(range(12)), "bad": []}) + "\n")
    if isinstance(content, bytes):
        path.with_suffix(".part").write_bytes(content)
    else:
        with path.with_suffix(".part").open("wb") as file:
            array = np.zeros((12, 4, 3), np.float32) if content == "float32" else np.zeros((11, 4, 3), np.float16)
            np.save(file, array)
    check(cached_tokens(photos, tokens_of, SIZE, tmp_path, "m", progress=False), photos)


def _made(folder: Path, photos: list[Image]) -> int:
    def slow(pixels: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return counting(pixels)

    counting = Counting()
    check(cached_tokens(photos, slow, SIZE, folder, "m", batch=2, progress=False), photos)
    return counting.count


def test_two_processes_share_the_work_of_one(photos: list[Image], tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert sorted(pool.map(_made, [tmp_path] * 2, [photos] * 2)) == [0, 9]


def test_the_next_pictures_are_read_while_the_graph_runs(tmp_path: Path) -> None:
    with ImageServer() as server:
        images = [Image(server.url(f"/ok.jpg?{i}")) for i in range(6)]
        seen = []

        def graph(pixels: np.ndarray) -> np.ndarray:
            wanted = min(6, 2 * (len(seen) + 2))
            deadline = time.monotonic() + 10
            while sum(server.hits.values()) < wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(sum(server.hits.values()))
            return tokens_of(pixels)

        cached_tokens(images, graph, SIZE, tmp_path, "m", batch=2, progress=False)
        assert len(seen) == 3
        assert seen[0] >= 4
        assert seen[1] == seen[2] == 6


def test_memory_does_not_grow_with_the_pictures(photos: list[Image], tmp_path: Path) -> None:
    # Already fetched: reading a file takes a buffer of Limits.max_bytes, which is not what is looked at here.
    images = [Image(f.uri, data=Path(f.location).read_bytes()) for f in (photos[0], photos[1])] * 128
    batch_bytes = 8 * 128 * 128 * 3
    cached_tokens(images[:4], tokens_of, 128, tmp_path, "m", progress=False)  # imports

    def small(pixels: np.ndarray) -> np.ndarray:
        return pixels[:, ::32, ::32].reshape(len(pixels), 16, 3).astype(np.float32)

    tracemalloc.start()
    try:
        cached_tokens(images, small, 128, tmp_path, "m", batch=8, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * batch_bytes + 2 * THREADS * 1000 * 400 * 3  # of 32 batches; and what the threads are decoding


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda pixels: tokens_of(pixels)[:, 0], r"gave shape \(9, 3\) for 9 pictures, wanted \(9, P, D\)"),
        (lambda pixels: tokens_of(pixels)[:2], r"gave shape \(2, 4, 3\) for 9 pictures"),
        (lambda pixels: tokens_of(pixels) * np.nan, "are no numbers of half precision; look at its weights"),
        (lambda pixels: tokens_of(pixels) + 1e5, "tokens of 0.jpg or of the 8 pictures with it are no numbers of half"),
    ],
)
def test_models_that_give_no_tokens_are_refused(
    model: Callable[[np.ndarray], np.ndarray], message: str, photos: list[Image], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        cached_tokens(photos, model, SIZE, tmp_path, "m", progress=False)
    assert not list(tmp_path.glob("*.json"))


def test_no_picture_at_all_is_an_error(photos: list[Image], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none of 2 pictures could be read; the first: .*7\.jpg: no such file"):
        cached_tokens([photos[7], photos[10]], never, SIZE, tmp_path, "m")
    with pytest.raises(TrainingError, match=r"none of 0 pictures could be read\. Correct the samples"):
        cached_tokens([], never, SIZE, tmp_path, "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write .*file: .*Choose another place"):
        cached_tokens(photos, never, SIZE, tmp_path / "file", "m")


# Labels of single images ---------------------------------------------------------------------------------------------


def test_primary_groups_come_from_accepted_and_corrected_sequences(rulebook: Rulebook) -> None:
    verdicts = [
        verdict(sku="a", accepted=True, sequence=("2", "1"), candidates=("1", "2", "3"), base="/s", split="train"),
        verdict(sku="b", sequence=("1", "2"), candidates=("1", "2", "3"), corrected=("3", "1"), split="test"),
        verdict(sku="c", sequence=("1", "2"), candidates=("1", "2", "3"), rules=("banner",)),  # nobody says which
        verdict(sku="d", accepted=True, sequence=("1",), candidates=("1",)),  # there was no choice
        verdict(sku="e", accepted=True, sequence=("1", "2"), split="train"),  # without candidates
        verdict(sku="f", accepted=True, sequence=("1", "/s/1"), base="/s"),  # one image by two names
    ]
    groups = primary_groups(labelled(verdicts, rulebook))
    found = [(g.sku, [image.uri for image in g.images], g.primary, g.split) for g in groups]
    assert found == [
        ("a", ["1", "2", "3"], 1, "train"),
        ("b", ["1", "2", "3"], 2, "test"),
        ("e", ["1", "2"], 0, "train"),
    ]
    assert groups[0].images[1].location == "/s/2"


def test_image_labels_say_only_what_is_known(rulebook: Rulebook) -> None:
    order = rulebook.single_rules
    two = ("1", "2")
    verdicts = [
        verdict(sku="clean", accepted=True, sequence=two, split="train"),
        verdict(sku="one", sequence=two, rules=("banner",), image_index=1, split="test"),
        verdict(sku="spoken", sequence=two, feedback="there is a watermark", image_index=0),
        verdict(sku="nowhere", sequence=two, rules=("banner",)),  # which of the two?
        verdict(sku="pair", sequence=two, rules=("duplicate",), image_index=1),
        verdict(sku="other", sequence=two, feedback="hm", image_index=1),
        verdict(sku="unlearned", sequence=two, rules=("too_small", "banner"), image_index=1),  # of too_small
        verdict(sku="alone", sequence=("1",), rules=("banner", "duplicate", "blur")),
        verdict(sku="twice", sequence=two, rules=("banner",), image_index=1),
        verdict(sku="twice", sequence=("2", "1"), rules=("blur",), image_index=0),
        verdict(sku="changed", sequence=two, rules=("banner",), image_index=1),
        verdict(sku="changed", accepted=True, sequence=("2",)),
    ]
    labels = image_labels(labelled(verdicts, rulebook), rulebook)
    found = {
        (x.sku, x.image.uri): (x.rules, [r for r, known in zip(order, x.known, strict=True) if known]) for x in labels
    }
    everything = list(order)
    assert found == {
        ("clean", "1"): ((), everything),
        ("clean", "2"): ((), everything),
        ("one", "2"): (("banner",), ["banner"]),
        ("spoken", "1"): (("watermark",), ["watermark"]),
        ("alone", "1"): (("banner", "blur"), ["banner", "blur"]),
        ("twice", "2"): (("banner", "blur"), ["banner", "blur"]),
        ("changed", "2"): (("banner",), everything),
    }
    assert [x.split for x in labels[:3]] == ["train", "train", "test"]
    rules, known, noncompliant, noncompliant_known = label_arrays(labels, rulebook)
    assert rules.shape == known.shape == (7, len(order))
    assert rules.dtype == known.dtype == noncompliant.dtype == noncompliant_known.dtype == np.float32
    assert rules.sum(1).tolist() == [0, 0, 1, 1, 2, 2, 1]
    assert rules[2, order.index("banner")] == 1
    assert known.sum(1).tolist() == [len(order)] * 2 + [1, 1, 2, 2, len(order)]
    assert noncompliant.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert noncompliant_known.tolist() == [1] * 7
    assert [part.shape for part in label_arrays([], rulebook)] == [(0, len(order)), (0, len(order)), (0,), (0,)]


def test_image_labels_of_a_file(rulebook: Rulebook, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    good = [
        {"image": "a.jpg", "rules": ["blur", "banner"]},
        {"image": "b.jpg", "rules": [], "sku": "f", "split": ""},
        {"image": "https://shop.example/c.jpg", "rules": [], "sku": "c", "split": "test"},
    ]
    bad = {
        "bad_json": ["{", "[]", "[" * 100_000, '"\\ud800"'],
        "missing_field": ["{}", '{"image": "", "rules": []}', '{"image": "a.jpg"}'],
        "bad_field": [
            '{"image": 1, "rules": []}',
            '{"image": "\\ud800", "rules": []}',
            '{"image": "a", "rules": "blur"}',
            '{"image": "a", "rules": ["house_rule"]}',
            '{"image": "a", "rules": [["blur"]]}',
            '{"image": "a", "rules": ["duplicate"]}',  # not of one image
            '{"image": "a", "rules": [], "split": "dev"}',
            '{"image": "a", "rules": [], "split": []}',
            '{"image": "a", "rules": [], "sku": 4}',
            '{"image": "a", "rules": [], "colour": "red"}',
        ],
    }
    path.write_text("\n".join([*map(json.dumps, good), "", *(line for lines in bad.values() for line in lines)]))
    left_out: list[BadSample] = []
    labels = read_image_labels(path, rulebook, bad=left_out)
    assert [(x.image.location, x.rules, x.sku, x.split) for x in labels] == [
        (str(tmp_path / "a.jpg"), ("banner", "blur"), "a.jpg", split_of("a.jpg")),
        (str(tmp_path / "b.jpg"), (), "f", "validation"),
        ("https://shop.example/c.jpg", (), "c", "test"),
    ]
    assert all(x.known == (True,) * len(rulebook.single_rules) for x in labels)
    assert [x.code for x in left_out] == [code for code, lines in bad.items() for _ in lines]
    assert left_out[0].place == "labels.jsonl, line 5"
    assert "found rules: ['house_rule'], allowed are single rules of 'default'" in left_out[10].message
    assert len(read_image_labels(path, rulebook)) == 3
    shared = [{"image": "a", "rules": [], "sku": "x", "split": split} for split in ("test", "train")]
    path.write_text("\n".join(map(json.dumps, shared)))
    with pytest.raises(TrainingError, match=r"line 2: found 'x' in test and in train; all images of a product belong"):
        read_image_labels(path, rulebook)
    with pytest.raises(TrainingError, match=r"found no file at .*none.jsonl"):
        read_image_labels(tmp_path / "none.jsonl", rulebook)
