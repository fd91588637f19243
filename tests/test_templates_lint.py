"""What a folder of templates must be, and that every mistake is found when it is read."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from gateway.errors import BadInput
from gateway.templating import Catalog

FOLDER = Path(str(files("templates")))
SHIPPED = Catalog.load()


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped templates, to be spoilt."""
    return Path(
        shutil.copytree(
            FOLDER, tmp_path / "my templates", ignore=shutil.ignore_patterns("__pycache__", "*.py")
        )
    )


def faults(folder):
    with pytest.raises(BadInput) as caught:
        Catalog.load(folder)
    return {(fault.at, fault.code) for fault in caught.value.faults}


def spoil(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_the_content_hash_follows_every_text_and_binding_but_not_the_approval(folder):
    first = Catalog.load(folder).get("pre_due").content_hash
    assert first == SHIPPED.get("pre_due").content_hash

    spoil(folder / "catalog.toml", "approved = true", "approved = false")
    disapproved = Catalog.load(folder).get("pre_due")
    assert (disapproved.approved, disapproved.content_hash) == (False, first)

    spoil(folder / "catalog.toml", "SMS_100000001", "SMS_200000001")
    rebound = Catalog.load(folder).get("pre_due").content_hash
    assert rebound != first

    spoil(folder / "pre_due/voice.zh-CN.liquid", "再见", "祝好")
    reworded = Catalog.load(folder)
    assert reworded.get("pre_due").content_hash not in {first, rebound}
    assert reworded.get("care").content_hash == SHIPPED.get("care").content_hash


MISTAKES = [
    ("an unknown variable", "pre_due/sms.en.liquid", "{{ name }}", "{{ nmae }}", "variable_unknown"),
    (
        "a fact that was not declared",
        "care/email.en.liquid",
        "{{ pay_url }}",
        "{{ help_url }}",
        "variable_unknown",
    ),
    ("an unknown filter", "pre_due/sms.en.liquid", "| sms_money", "| mony", "filter_unknown"),
    (
        "a filter of Liquid that is not ours",
        "pre_due/sms.en.liquid",
        "| sms_money",
        "| upcase",
        "filter_unknown",
    ),
    ("a tag that is not closed", "pre_due/sms.zh-CN.liquid", "{% endif %}", "", "template_syntax"),
    ("an include", "pre_due/sms.en.liquid", "{{ name }}", "{{ name }}{% include 'x' %}", "template_syntax"),
    (
        "a property that is not there",
        "pre_due/sms.en.liquid",
        "{{ name }}",
        "{{ name.first }}",
        "template_fails",
    ),
    (
        "money through a date",
        "pre_due/sms.en.liquid",
        "amount | sms_money",
        "amount | date",
        "template_fails",
    ),
    ("an amount without a filter", "pre_due/sms.en.liquid", "amount | sms_money", "amount", "amount_bare"),
    (
        "a loop that does not end in time",
        "pre_due/sms.en.liquid",
        "{{ name }}",
        "{{ name }}{% for i in (1..5000) %}{% if i == 0 %}x{% endif %}{% endfor %}",
        "template_fails",
    ),
    (
        "a text without end",
        "pre_due/email.en.liquid",
        "{{ name }}",
        "{% for i in (1..900) %}{{ name }}{% endfor %}",
        "template_fails",
    ),
    ("an SMS that nobody takes", "pre_due/sms.en.liquid", "Hello", "Hello" + "o" * 1_600, "template_fails"),
    ("no subject", "pre_due/email.en.liquid", "Subject: ", "", "subject_missing"),
    (
        "no empty line under the subject",
        "pre_due/email.en.liquid",
        "{{ creditor }}\n\nDear",
        "{{ creditor }}\nDear",
        "subject_missing",
    ),
    ("one stage only", "pre_due/voice.en.liquid", "\n---\n", "\n", "stage_missing"),
    (
        "a mainland text without a signature",
        "pre_due/sms.zh-CN.liquid",
        "signature",
        "creditor",
        "signature_missing",
    ),
    (
        "a variable of WeChat that the text does not say",
        "pre_due/wechat.en.liquid",
        "Unfollow to opt out",
        "",
        "variable_unsaid",
    ),
    (
        "a file of twenty pages",
        "pre_due/email.en.liquid",
        "Dear",
        "{% comment %}" + "x" * 17_000 + "{% endcomment %}Dear",
        "text_too_long",
    ),
]


@pytest.mark.parametrize(("case", "file", "old", "new", "code"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_text_is_refused_at_load_for(folder, case, file, old, new, code):
    spoil(folder / file, old, new)
    found = faults(folder)

    assert code in {found_code for _, found_code in found}
    assert all(at.startswith((file, "catalog.toml:")) for at, _ in found)


@pytest.mark.parametrize(
    "word", ["{{ amount | money }}", "{{ due_date | date }}", "{{ dpd }}", "{{ pay_url }}"]
)
def test_what_tells_of_a_debt_is_refused_in_a_subject_and_before_the_keypress(folder, word):
    spoil(folder / "pre_due/email.en.liquid", "Subject: ", f"Subject: {word} ")
    spoil(folder / "pre_due/voice.en.liquid", "press 9.\n", f"press 9. {word}\n")

    assert faults(folder) == {
        ("pre_due/email.en.liquid (subject)", "variable_too_early"),
        ("pre_due/voice.en.liquid", "variable_too_early"),
    }


ENTRIES = [
    ("a key nobody knows", "approved = true", "aproved = true", "catalog_invalid"),
    ("a version that is no number", "version = 2", 'version = "first"', "catalog_invalid"),
    ("a version of nothing", "version = 2", "version = 0", "catalog_invalid"),
    ("a time it never expires", '"P3D"', '"P1000D"', "catalog_invalid"),
    ("a time of no length", '"P3D"', '"PT0S"', "catalog_invalid"),
    ("a purpose nobody knows", '"pre_due_reminder"', '"nagging"', "catalog_invalid"),
    ("no purpose at all", '["service_notice", "pre_due_reminder", "due_today"]', "[]", "catalog_invalid"),
    ("an actor nobody knows", 'facts = ["pay_url"]', 'actors = ["uncle"]', "catalog_invalid"),
    ("a place that is none", 'facts = ["pay_url"]', 'places = ["Utopia"]', "catalog_invalid"),
    ("a truth nobody knows", '"before_due"', '"before_dew"', "catalog_invalid"),
    ("a channel nobody knows", 'channel = "wechat"', 'channel = "pigeon"', "catalog_invalid"),
    ("TOML that is none", "[[template]]", "[[template", "catalog_unreadable"),
    ("a default without texts", 'default_language = "en"', 'default_language = "fr"', "language_unknown"),
    ("a template twice", 'name = "care"', 'name = "pre_due"', "template_twice"),
    ("a folder that is not listed", 'name = "care"', 'name = "pre_due"', "template_unlisted"),
    ("a language without texts", '["zh-CN", "en"]', '["zh-CN", "en", "hi"]', "text_missing"),
    ("a language that is not asked for", '["zh-CN", "en"]', '["en"]', "text_unused"),
    ("a binding in a language without texts", 'language = "zh-CN"', 'language = "hi"', "binding_unheard"),
    ("a fact that the gateway supplies", '["pay_url"]', '["pay_url", "amount"]', "fact_supplied"),
    ("a fact that no text uses", '["pay_url"]', '["pay_url", "gift"]', "fact_unused"),
    ("a variable map with an unknown variable", '"{{ pay_url }}"', '"{{ url }}"', "variable_unknown"),
]


@pytest.mark.parametrize(("case", "old", "new", "code"), ENTRIES, ids=[row[0] for row in ENTRIES])
def test_a_catalog_is_refused_for(folder, case, old, new, code):
    spoil(folder / "catalog.toml", old, new)

    assert code in {found for _, found in faults(folder)}


def test_every_mistake_of_a_folder_comes_at_once(folder):
    (folder / "pre_due/sms.en.liquid").unlink()
    (folder / "pre_due/fax.en.liquid").write_text("{{ name }}")
    (folder / "threat").mkdir()
    spoil(folder / "due_today/email.zh-CN.liquid", "{{ pay_url }}", "{{ pay_link }}")
    spoil(folder / "care/voice.en.liquid", "\n---\n", "\n")
    (folder / "overdue_firm/wechat.en.liquid").write_bytes(b"\xff\xfe")

    assert faults(folder) >= {
        ("pre_due/sms.en.liquid", "text_missing"),
        ("pre_due/fax.en.liquid", "text_unused"),
        ("threat", "template_unlisted"),
        ("due_today/email.zh-CN.liquid", "variable_unknown"),
        ("care/voice.en.liquid", "stage_missing"),
        ("overdue_firm/wechat.en.liquid", "text_unreadable"),
    }


def test_a_folder_without_a_catalog_says_so(tmp_path):
    assert faults(tmp_path) == {("catalog.toml", "catalog_unreadable")}


def test_a_template_of_ones_own_can_be_added(folder):
    shutil.copytree(folder / "care", folder / "thanks")
    entry = 'name = "thanks"\nversion = 3\napproved = false\nfacts = ["pay_url"]\nexpires_after = "PT24H"'
    with (folder / "catalog.toml").open("a") as catalog:
        catalog.write(f"\n[[template]]\n{entry}\n")
    made = Catalog.load(folder).get("thanks")

    assert (made.version, made.approved, made.valid_while, made.bindings) == (3, False, None, ())
    assert made.purposes == {"service_notice", "pre_due_reminder", "due_today", "collection"}
    assert (made.actors, made.places) == ({"creditor"}, ())


def test_a_binding_may_name_a_pattern_of_accounts(folder):
    spoil(folder / "catalog.toml", 'account = "sms-cn"', 'account = "sms-c*"')
    template = Catalog.load(folder).get("pre_due")

    assert template.bound("aliyun_sms", "sms-cn-2").code == "SMS_100000001"
    assert template.bound("aliyun_sms", "sms-intl") is None
    assert template.bound("other_sms", "sms-cn-2") is None
