"""Rulebooks: what the package's say, how rulebooks extend each other, and how a mistake is reported."""

from __future__ import annotations

import pickle
import re
from datetime import date
from pathlib import Path

import pytest

from agpis import limits
from agpis.errors import RulebookError
from agpis.limits import LIMITS
from agpis.rulebook import (
    BUILTIN,
    LANGUAGES,
    RULEBOOK_CODES,
    Rule,
    Rulebook,
    load_rulebook,
    ordinal,
    parse_rulebook,
    slots,
)

ROOT = Path(__file__).resolve().parent.parent

RULE = """\
  - id: {id}
    name: Small
    scope: single
    description: Too small.
    check: {{name: min_pixels, shorter: 100}}
    feedback: {{en: [Too small.], zh: [太小。]}}
"""


def text(*rules: str, head: str = "id: mine\nversion: 1\n") -> str:
    return head + "rules:\n" + "".join(rules)


def rule(id: str = "small", /, **keys: str) -> str:
    """A valid rule; `keys` replace or add lines, "" removes one."""
    lines = RULE.format(id=id).splitlines(keepends=True)
    for key, value in keys.items():
        line = f"    {key}: {value}\n" if value else ""
        at = next((i for i, old in enumerate(lines) if old.startswith(f"    {key}:")), len(lines))
        lines[at : at + 1] = [line]
    return "".join(lines)


def refused(content: str) -> RulebookError:
    with pytest.raises(RulebookError) as caught:
        parse_rulebook(content, "my.yaml")
    assert caught.value.code in RULEBOOK_CODES
    return caught.value


# ---- the package's rulebooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTIN)
def test_every_builtin_loads(name: str) -> None:
    book = load_rulebook(name)
    assert book.id == name
    assert len({rule.id for rule in book.rules}) == len(book.rules)
    for rule in book.rules:
        assert rule.check is not None or rule.learned
        for language in LANGUAGES:
            phrases = getattr(rule.feedback, language)
            assert len(phrases) >= 3, rule.id
            assert len(set(phrases)) == len(phrases), rule.id
            assert rule.phrases(language, image=1, where="x")
            assert rule.phrases(language)
        assert not re.search("[\u4e00-\u9fff]", "".join(rule.feedback.en)), rule.id
        assert all(re.search("[\u4e00-\u9fff]", phrase) for phrase in rule.feedback.zh), rule.id


def test_default_covers_the_paper_and_the_three_scopes() -> None:
    default = load_rulebook("default")
    assert default.k == 3
    assert len(default.rules) >= 36
    assert {rule.scope for rule in default.rules} == {"single", "pair", "multi"}
    named_in_the_paper = (
        "artefact blur logo banner watermark duplicate same_view different_colour different_product"
        " wrong_order primary_incomplete redundant_views missing_views title_mismatch"
    )
    for name in named_in_the_paper.split():
        assert default.rule(name).learned, name
    assert default.rule("blur").check is not None
    assert default.rule("border").check is not None
    used = {rule.check.name for rule in default.rules if rule.check}
    assert used == set(LIMITS) - {"url"}


def test_learned_rules_are_simulated_by_their_own_name() -> None:
    for rule in load_rulebook("default").rules:
        assert (rule.simulate is not None) == rule.learned, rule.id
        assert rule.simulate is None or rule.simulate.name == rule.id


def test_phrases_tell_the_rules_apart() -> None:
    """A phrase that two rules share would be a label that says nothing."""
    owner: dict[str, str] = {}
    for rule in load_rulebook("default").rules:
        for phrase in (*rule.feedback.en, *rule.feedback.zh):
            assert owner.setdefault(phrase, rule.id) == rule.id, phrase


def test_marketplaces_serve_the_models_of_default() -> None:
    default = load_rulebook("default")
    for name in BUILTIN[1:]:
        book = load_rulebook(name)
        assert book.classes == default.classes
        own = [rule for rule in book.rules if rule.platform]
        assert own
        for rule in own:
            assert rule.platform == name
            assert re.match(r"\[[VSD]\] ", rule.source), (name, rule.id)


def _limit(name: str, rule_id: str, on: date = date(2026, 6, 1), category: str = "") -> limits.Strict:
    standing = {rule.id: rule for rule in load_rulebook(name).active(on, category)}
    check = standing[rule_id].check
    assert check is not None
    return check


def test_marketplace_limits_are_those_of_the_sources() -> None:
    assert _limit("amazon", "fill_low") == limits.MinFill(name="min_fill", extent=0.85)
    assert _limit("amazon", "too_large") == limits.MaxPixels(name="max_pixels", longest=10000)
    white = load_rulebook("amazon").rule("background_white")
    assert (white.role, white.severity) == ("main", "error")
    assert load_rulebook("amazon").rule("banner").role == "main"
    assert load_rulebook("ebay").rule("banner").role == "any"
    assert "background_white" not in load_rulebook("ebay")
    assert _limit("ebay", "too_small") == limits.MinPixels(name="min_pixels", longest=500)
    assert _limit("walmart", "file_size") == limits.FileSize(name="file_size", max_mb=5)
    assert _limit("walmart", "format") == limits.FormatAllowed(name="format", allowed=("JPEG", "PNG", "BMP"))
    assert _limit("google", "file_size") == limits.FileSize(name="file_size", max_mb=16)
    assert load_rulebook("google").rule("format_mismatch").severity == "error"
    assert load_rulebook("default").rule("format_mismatch").severity == "warning"
    assert [load_rulebook(name).max_images for name in BUILTIN] == [None, 9, 11, None, 24]


def test_google_minimum_by_day_and_category() -> None:
    for on, category, shorter in (
        (date(2027, 1, 30), "", 100),
        (date(2027, 1, 30), "APPAREL & Accessories", 250),
        (date(2027, 1, 31), "", 500),
        (date(2027, 1, 31), "Apparel", 500),
        (date(2040, 1, 1), "Shoes", 500),
    ):
        assert _limit("google", "too_small", on, category) == limits.MinPixels(name="min_pixels", shorter=shorter)


def test_docs_name_every_rule_check_limit_and_code() -> None:
    rules = (ROOT / "docs" / "rulebooks.md").read_text(encoding="utf-8")
    for name in BUILTIN:
        for rule in load_rulebook(name).rules:
            assert f"`{rule.id}`" in rules, rule.id
    table = rules[rules.index("## The measured checks") :]
    for check, model in LIMITS.items():
        row = next((line for line in table.splitlines() if line.startswith(f"| `{check}`")), "")
        for field in model.model_fields:
            assert field == "name" or f"`{field}`" in row, (check, field)
    for model in (Rule, Rulebook):
        for field in model.model_fields:
            assert f"`{field}`" in rules, field
    errors = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for code in RULEBOOK_CODES:
        assert f"`{code}`" in errors


def test_the_example_in_the_docs_is_a_rulebook() -> None:
    rules = (ROOT / "docs" / "rulebooks.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(id:.*?)```", rules, flags=re.DOTALL)
    assert examples
    for example in examples:
        assert parse_rulebook(example).rules


# ---- classes, hash, phrases -------------------------------------------------------------------------------------


def test_classes_follow_the_file() -> None:
    book = parse_rulebook(
        text(
            rule("b", learned="true"),
            rule("c"),
            rule("a", learned="true"),
            rule("p", scope="pair", check="", learned="true"),
        )
    )
    assert book.classes == ("qualified", "b", "a", "p", "other")
    assert book.single_rules == ("b", "a")
    assert "c" in book
    assert "z" not in book
    with pytest.raises(KeyError):
        book.rule("z")


def test_hash_is_of_the_content() -> None:
    plain = text(rule())
    same = "# comment\n" + plain.replace("version: 1", 'version:   "1"   # one') + "k: 3\n"
    assert parse_rulebook(same).hash == parse_rulebook(plain).hash
    swapped = (
        text(rule())
        .replace("shorter: 100", "shorter: 100 ")
        .replace("id: mine\nversion: 1\n", "version: 1\nid: mine\n")
    )
    assert parse_rulebook(swapped).hash == parse_rulebook(plain).hash
    for other in (plain.replace("100", "101"), plain + "k: 4\n", text(rule(), rule("b")), plain.replace("太", "大")):
        assert parse_rulebook(other).hash != parse_rulebook(plain).hash
    assert text(rule("a"), rule("b")) != text(rule("b"), rule("a"))
    assert parse_rulebook(text(rule("a"), rule("b"))).hash != parse_rulebook(text(rule("b"), rule("a"))).hash


@pytest.mark.parametrize("name", BUILTIN)
def test_text_reads_back(name: str) -> None:
    book = load_rulebook(name)
    again = parse_rulebook(book.text())
    assert again == book
    assert again.hash == book.hash
    assert pickle.loads(pickle.dumps(book)).hash == book.hash


def test_text_that_other_yaml_readers_would_take_for_something_else() -> None:
    book = parse_rulebook(text(rule(name='"no"', description="on", platform='"1e3"', source='"2027-01-31"')))
    assert (book.rule("small").name, book.rule("small").description) == ("no", "on")
    assert parse_rulebook(book.text()) == book


def test_phrases() -> None:
    small = parse_rulebook(
        text(
            rule(
                feedback='{en: [Bad., "The {image} one.", "Bad {where}.", "{image} {where}"],'
                ' zh: [坏。, "{image}坏。"]}'
            )
        )
    ).rule("small")
    assert small.phrases() == ("Bad.",)
    assert small.phrases("en", 1) == ("Bad.", "The second one.")
    assert small.phrases("en", where="at the top") == ("Bad.", "Bad at the top.")
    assert small.phrases("en", 0, "here") == ("Bad.", "The first one.", "Bad here.", "first here")
    assert small.phrases("zh", 1) == ("坏。", "第二张坏。")
    assert slots("{image} {where}") == ("image", "where")


def test_ordinal() -> None:
    assert [ordinal(n) for n in (0, 9, 10, 11, 12, 20, 21, 22, 110)] == [
        "first", "tenth", "11th", "12th", "13th", "21st", "22nd", "23rd", "111th",
    ]  # fmt: skip
    assert [ordinal(n, "zh") for n in (0, 9, 10)] == ["第一张", "第十张", "第11张"]


# ---- days and categories ----------------------------------------------------------------------------------------


def test_valid_from_of_a_rule() -> None:
    book = parse_rulebook(text(rule("now"), rule("later", valid_from="2027-01-31")))
    assert [r.id for r in book.active(date(2027, 1, 30))] == ["now"]
    assert [r.id for r in book.active(date(2027, 1, 31))] == ["now", "later"]
    assert book.rule("later").valid_from == date(2027, 1, 31)


def test_last_change_that_applies_wins() -> None:
    book = parse_rulebook(
        text(
            rule(
                changes="[{categories: [shoe], severity: warning}, "
                "{valid_from: 2027-01-01, check: {name: min_pixels, shorter: 300}, source: law}]"
            )
        )
    )
    before, after = date(2026, 12, 31), date(2027, 1, 1)
    (plain,) = book.active(before, "Bags")
    assert plain is book.rule("small")
    (shoe,) = book.active(before, "Men/Shoes")
    assert (shoe.severity, shoe.check) == ("warning", book.rule("small").check)
    (later,) = book.active(after, "Men/Shoes")
    assert (later.severity, later.source) == ("warning", "law")
    assert later.check == limits.MinPixels(name="min_pixels", shorter=300)


# ---- extends ----------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_extends(tmp_path: Path) -> None:
    write(
        tmp_path,
        "base/parent.yaml",
        text(rule("a", learned="true"), rule("b"), rule("c"), head="id: p\nversion: 1\nk: 5\n"),
    )
    child = write(
        tmp_path,
        "child.yaml",
        "id: child\nversion: 2\nextends: base/parent.yaml\ndrop: [b]\nrules:\n"
        "  - {id: a, severity: warning}\n" + rule("d", learned="true"),
    )
    book = load_rulebook(child)
    assert (book.id, book.version, book.k) == ("child", "2", 5)
    assert [r.id for r in book.rules] == ["a", "c", "d"]
    assert (book.rule("a").severity, book.rule("a").name) == ("warning", "Small")
    assert book.classes == ("qualified", "a", "d", "other")


def test_extends_a_rulebook_of_the_package(tmp_path: Path) -> None:
    child = write(tmp_path, "my.yaml", "id: my\nversion: 1\nextends: amazon\nk: 4\n")
    assert load_rulebook(child).k == 4
    assert load_rulebook(child).classes == load_rulebook("default").classes
    assert load_rulebook(str(child)).rule("fill_low") == load_rulebook("amazon").rule("fill_low")


def test_extends_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "id: a\nversion: 1\nextends: b.yaml\n")
    write(tmp_path, "b.yaml", "id: b\nversion: 1\n\nextends: a.yaml\n")
    with pytest.raises(
        RulebookError, match=r"b\.yaml:4: extends: found a circle \(a\.yaml -> b\.yaml -> a\.yaml\)"
    ) as e:
        load_rulebook(tmp_path / "a.yaml")
    assert e.value.code == "rulebook_extends"


def test_extends_too_often(tmp_path: Path) -> None:
    for n in range(12):
        write(tmp_path, f"{n}.yaml", f"id: r\nversion: 1\nextends: {n + 1}.yaml\n")
    with pytest.raises(RulebookError, match="found more than 8 rulebooks in a row") as e:
        load_rulebook(tmp_path / "0.yaml")
    assert e.value.code == "rulebook_extends"


def test_extends_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "id: a\nversion: 1\nextends: defualt\n")
    with pytest.raises(RulebookError, match=r"a\.yaml:3: extends: found 'defualt'.*default, amazon") as e:
        load_rulebook(path)
    assert e.value.code == "rulebook_extends"


def test_mistake_in_a_parent_is_reported_there(tmp_path: Path) -> None:
    write(tmp_path, "parent.yaml", text(rule("a", severity="fatal")))
    path = write(tmp_path, "child.yaml", "id: c\nversion: 1\nextends: parent.yaml\nrules:\n  - {id: a, role: mian}\n")
    with pytest.raises(RulebookError) as e:
        load_rulebook(path)
    lines = str(e.value).splitlines()
    assert any(re.search(r"parent\.yaml:\d+: rules\[a\]\.severity: found 'fatal'", line) for line in lines)
    assert any(re.search(r"child\.yaml:5: rules\[a\]\.role: found 'mian'.*did you mean 'main'", line) for line in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id: c\nversion: 1\nextends: [default]\n", r"c\.yaml:3: extends: found \['default'\], allowed is the name"),
        ("id: c\nversion: 1\nextends: default\ndrop: [banana]\n", r"c\.yaml:4: drop: found 'banana'.*banner, badge"),
        ("id: c\nversion: 1\nextends: default\ndrop: banner\n", r"c\.yaml:4: drop: found 'banner', allowed is a list"),
        ("id: c\nversion: 1\ndrop: [a]\nrules: []\n", r"c\.yaml:3: drop: found without extends"),
        ("id: c\nversion: 1\nextends: default\nrules: 3\n", r"c\.yaml:4: rules: found 3, allowed is a list"),
        ("id: c\nversion: 1\nextends: default\nrules: [3]\n", r"c\.yaml:4: rules\[49\]: found 3, allowed is a mapping"),
        (
            "id: c\nversion: 1\nextends: default\nrules:\n - {id: blur, role: main}\n - {id: blur, role: any}\n",
            r"c\.yaml:6: rules\[blur\]\.id: found 'blur' again \(first at .*c\.yaml:5\)",
        ),
    ],
)
def test_mistakes_in_a_child(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RulebookError, match=message) as e:
        load_rulebook(write(tmp_path, "c.yaml", content))
    assert e.value.code == "rulebook_invalid"


# ---- mistakes, each with file, line, key, what was found, what is allowed ---------------------------------------

INVALID = {
    "unknown key": (
        rule(severty="error"),
        r"my\.yaml:10: rules\[small\]\.severty: found an unknown key, .*mean 'severity'",
    ),
    "unknown check": (
        rule(check="{name: sharpnes}"),
        r":8: rules\[small\]\.check: found the check 'sharpnes', allowed are min",
    ),
    "check, nearly": (rule(check="{name: max_blurr}"), r"did you mean 'max_blur'"),
    "check without name": (
        rule(check="{radius: 2.0}"),
        r":8: rules\[small\]\.check: found no name of a check, allowed are",
    ),
    "check no mapping": (rule(check="max_blur"), r":8: rules\[small\]\.check: found 'max_blur', allowed is a mapping"),
    "unknown limit": (
        rule(check="{name: max_blur, radios: 2.0}"),
        r"rules\[small\]\.check\.radios: found an unknown key, allowed are name, radius; did you mean 'radius'",
    ),
    "limit missing": (
        rule(check="{name: max_blur}"),
        r"check\.radius: found nothing, but it must be given; add radius: a num",
    ),
    "limit text": (
        rule(check="{name: max_blur, radius: much}"),
        r"check\.radius: found 'much', allowed is a number \(> 0\)",
    ),
    "limit out of range": (
        rule(check="{name: touches_edge, share: 12}"),
        r"found 12, allowed is a number \(>= 0, <= 1\)",
    ),
    "limit fraction": (
        rule(check="{name: min_pixels, shorter: 99.5}"),
        r"found 99\.5, allowed is a whole number \(>= 1\)",
    ),
    "no limit": (
        rule(check="{name: min_pixels}"),
        r":8: .*check: no limit is given; name at least one of shorter, longest",
    ),
    "limits swapped": (rule(check="{name: aspect, min: 2.0, max: 1.0}"), r"min \(=2\) is above max \(=1\); swap them"),
    "format": (
        rule(check="{name: format, allowed: [JPG]}"),
        r"allowed\[0\]: found 'JPG', allowed are JPEG, .*mean 'JPEG'",
    ),
    "no formats": (
        rule(check="{name: format, allowed: []}"),
        r"found an empty list, allowed is a list \(length >= 1\)",
    ),
    "url without limit": (rule(check="{name: url}"), r"no limit is given; set query: false, or ports"),
    "severity": (rule(severity="warn"), r":10: rules\[small\]\.severity: found 'warn', allowed are error, warning"),
    "scope": (
        rule(scope="singel"),
        r":6: .*scope: found 'singel', allowed are single, pair, multi; did you mean 'single'",
    ),
    "scope of the check": (rule(scope="pair"), r"the check min_pixels is of scope single, 'small' of scope pair"),
    "multi check": (
        rule(check="{name: min_images, images: 3}"),
        r"the check min_images is of scope multi, 'small' of scope si",
    ),
    "role of a pair": (rule(scope="pair", check="", learned="true", role="main"), r"a role needs scope single"),
    "name a number": (rule(name="3"), r":5: .*name: found 3, allowed is text"),
    "missing": (
        rule(description=""),
        r":4: rules\[small\]\.description: found nothing, but it must be given; add descriptio",
    ),
    "not detectable": (rule(check=""), r":4: .*nothing detects 'small'; give it a check, or learned: true"),
    "simulated only": (rule(simulate="{name: small}"), r"'small' is simulated but not learned"),
    "learned text": (rule(learned="yes"), r"learned: found 'yes', allowed is true or false"),
    "bad id": (rule("Small-1"), r"found 'Small-1', allowed is text \(of the form \^\[a-z\]"),
    "reserved id": (rule("qualified"), r"found 'qualified', which is a class of the models' own"),
    "date of text": (rule(valid_from='"2027-01-31"'), r"found '2027-01-31', allowed is a date \(YYYY-MM-DD\)"),
    "date as number": (rule(valid_from="2027"), r"valid_from: found 2027, allowed is a date \(YYYY-MM-DD\)"),
    "null": (rule(name="null"), r"name: found nothing, allowed is text"),
    "slot": (
        rule(feedback="{en: ['{img} bad', bad], zh: [坏]}"),
        r"found the slot \{img\} in .*allowed are \{image\} and",
    ),
    "slot format": (rule(feedback="{en: ['{image!r} bad', bad], zh: [坏]}"), r"without formatting"),
    "brace": (rule(feedback="{en: ['{image bad', bad], zh: [坏]}"), r"stray brace"),
    "only slots": (
        rule(feedback="{en: ['{image} bad'], zh: [坏]}"),
        r":9: .*en: every phrase has a slot; add one without",
    ),
    "language missing": (rule(feedback="{en: [bad]}"), r"feedback\.zh: found nothing, but it must be given"),
    "no phrases": (
        rule(feedback="{en: [], zh: [坏]}"),
        r"feedback\.en: found an empty list, allowed is a list \(length >= 1",
    ),
    "phrase no list": (rule(feedback="{en: bad, zh: [坏]}"), r"feedback\.en: found 'bad', allowed is a list"),
    "range": (
        rule(learned="true", simulate="{name: s, ranges: {size: [0.6, 0.2]}}"),
        r"size: \[0\.6, 0\.2\], low above high",
    ),
    "range value": (
        rule(learned="true", simulate="{name: s, ranges: {size: [[1]]}}"),
        r"size\[0\]: found a list, allowed is a nu",
    ),
    "range one": (
        rule(learned="true", simulate="{name: s, ranges: {size: 3}}"),
        r"ranges\.size: found 3, allowed is a list",
    ),
    "empty change": (
        rule(changes="[{valid_from: 2027-01-31}]"),
        r"changes\[0\]: nothing is changed; give severity, check",
    ),
    "change always": (rule(changes="[{severity: warning}]"), r"without valid_from and categories always applies"),
    "change scope": (
        rule(changes="[{valid_from: 2027-01-31, check: {name: min_images, images: 3}}]"),
        r"the check min_images is of scope multi",
    ),
}


@pytest.mark.parametrize(("broken", "message"), INVALID.values(), ids=INVALID.keys())
def test_mistakes(broken: str, message: str) -> None:
    error = refused(text(broken))
    assert error.code == "rulebook_invalid"
    assert re.search(message, str(error)), str(error)
    assert str(error).startswith("my.yaml:")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text(rule()) + "k: 0\n", r":10: k: found 0, allowed is a whole number \(>= 1, <= 50\)"),
        (text(rule()) + "k: 51\n", r"k: found 51, allowed is"),
        (text(rule()) + "k: true\n", r"k: found true, allowed is a whole number"),
        (text(rule()) + "k: 5\nmax_images: 4\n", r"k \(=5\) is above max_images \(=4\); lower k"),
        (text(rule()) + "kk: 3\n", r":10: kk: found an unknown key, allowed are id, version"),
        ("id: a\nversion: 1\n", r"my\.yaml:1: rules: found nothing, but it must be given"),
        ("id: a\nversion: 1\nrules: []\n", r":3: rules: found an empty list, allowed is a list \(length >= 1\)"),
        (text(rule()).replace("version: 1", "version: 1.2"), r":2: version: found 1\.2, allowed is text"),
        ("id: a\nversion: 1\nrules: {a: b}\n", r":3: rules: found a mapping, allowed is a list"),
        (
            text(rule("a"), rule("b"), rule("a")),
            r":16: rules\[a\]\.id: found 'a' again \(first at my\.yaml:4\), every id",
        ),
    ],
)
def test_mistakes_of_the_whole(content: str, message: str) -> None:
    error = refused(content)
    assert error.code == "rulebook_invalid"
    assert re.search(message, str(error)), str(error)
    assert len(str(error).splitlines()) == 1, str(error)


def test_all_mistakes_are_told_at_once_in_order() -> None:
    error = refused(text(rule("a", severity="x"), rule("a", name="3"), rule("b", scope="no")))
    assert [int(line.split(":")[1]) for line in str(error).splitlines()] == [10, 11, 12, 19]
    many = refused(text(*(rule(f"r{n}", name="3") for n in range(40))))
    assert str(many).splitlines()[-1] == "... and 20 more"


SYNTAX = {
    "empty": ("", r"my\.yaml:1: found nothing, allowed is a mapping with the keys id, version, rules"),
    "comments only": ("# nothing\n", r"found nothing"),
    "list": ("- a\n", r"found a list, allowed is a mapping"),
    "text": ("hello", r"found 'hello', allowed is a mapping"),
    "indentation": ("id: a\n  version: 1\n", r"my\.yaml:2: found a YAML mistake \(mapping values are not allowed"),
    "tab": ("id: a\nrules:\n\t- id: x\n", r"my\.yaml:3: found a YAML mistake"),
    "open bracket": ("id: [a\nversion: 1\n", r"my\.yaml:\d: found a YAML mistake"),
    "quote": ("id: 'a\n", r"found a YAML mistake"),
    "control character": ("id: \x07a\n", r"found a YAML mistake"),
    "key twice": ("id: a\nversion: 1\nid: b\n", r"my\.yaml:3: id: found the key twice \(first at line 1\)"),
    "key in a rule twice": (
        text(rule()) + "    scope: pair\n",
        r"my\.yaml:10: scope: found the key twice \(first at line 6\)",
    ),
    "list as key": ("? [a]\n: b\n", r"my\.yaml:1: found a mapping or list as a key"),
    "two documents": ("id: a\n---\nid: b\n", r"my\.yaml:2: found a second document"),
    "anchor": ("id: &a b\nversion: *a\n", r"my\.yaml:1: found the anchor or alias 'a', which is not allowed"),
    "alias": ("id: *a\n", r"my\.yaml:1: found (the anchor or alias|a YAML mistake)"),
    "tag": (
        "id: !!python/object/apply:os.system [ls]\n",
        r"found the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    "deep": ("id: " + "[" * 30 + "]" * 30, r"my\.yaml:1: found more than 20 levels of nesting"),
    "very deep": ("id: " + "[" * 100_000, r"found more than 20 levels of nesting"),
    "no such day": (
        text(rule(valid_from="2027-02-30")),
        r"my\.yaml:10: found the date 2027-02-30, which does not exist",
    ),
}


@pytest.mark.parametrize(("content", "message"), SYNTAX.values(), ids=SYNTAX.keys())
def test_yaml_mistakes(content: str, message: str) -> None:
    error = refused(content)
    assert error.code == "rulebook_syntax"
    assert re.search(message, str(error)), str(error)


def test_billion_laughs() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "anchor or alias 'a0'" in str(refused("\n".join(lines)))


def test_unreadable_files(tmp_path: Path) -> None:
    cases = {
        "large.yaml": (b"# " + b"x" * 1024 * 1024, r"large\.yaml: found 1,048,578 bytes, allowed are 1,048,576"),
        "latin.yaml": (b"id: a\nname: caf\xe9\n", r"latin\.yaml:2: found the byte 0xe9, which is not UTF-8"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RulebookError, match=message) as e:
            load_rulebook(tmp_path / name)
        assert e.value.code == "rulebook_unreadable"
    with pytest.raises(RulebookError, match="found a folder; give the YAML file in it") as e:
        load_rulebook(tmp_path)
    assert e.value.code == "rulebook_unreadable"


def test_not_found() -> None:
    with pytest.raises(
        RulebookError, match=r"found 'amazn'.*default, amazon, google, walmart, ebay.*check the spell"
    ) as e:
        load_rulebook("amazn")
    assert e.value.code == "rulebook_not_found"


def test_windows_file(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text(rule()).replace("\n", "\r\n").encode())
    assert load_rulebook(path).hash == parse_rulebook(text(rule())).hash
