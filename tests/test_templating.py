"""The template engine: what may be filled in, and how it reads in each language."""

from datetime import date
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from liquid.exceptions import LiquidError

from gateway.domain import Account, Channel, Mode, Money
from gateway.errors import BadInput
from gateway.masking import Pii
from gateway.templating import Catalog, ValidWhile, Values, check_facts, is_plain, render
from gateway.templating.engine import compiled, cut, money, plain_money, produce, quickly
from gateway.templating.values import spoken

CATALOG = Catalog.load()
PRE_DUE = CATALOG.get("pre_due")
PAY_URL = "https://pay.example.com/L-1?a=1&b=2"


def account(adapter="twilio_sms", name="sms-intl", sender="+15005550006"):
    return Account(tenant="default/test", name=name, mode=Mode.TEST, adapter=adapter, sender=sender)


def values(**changed):
    said = {
        "name": Pii("Alex Example"),
        "creditor": "Example Credit",
        "amount": Money(amount=Decimal("120.50"), currency="USD"),
        "due_date": date(2026, 11, 30),
        "dpd": 0,
        "facts": {"pay_url": PAY_URL},
    }
    return Values(**{**said, **changed})


def sms(language="en", using=None, **changed):
    return render(
        PRE_DUE,
        Channel.SMS,
        language,
        values(**changed),
        account=using or account(),
        takes_free_text=using is None,
    )


# Filling in


@pytest.mark.parametrize(
    ("amount", "currency", "apart", "together"),
    [
        ("1280.50", "CNY", "¥1,280.50", "¥1280.50"),
        ("120.5", "USD", "$120.50", "$120.50"),
        ("45000", "INR", "₹45,000.00", "₹45000.00"),
        ("99.9", "GBP", "£99.90", "£99.90"),
        ("1234567.89", "EUR", "€1,234,567.89", "€1234567.89"),
        ("15000", "JPY", "JPY 15,000", "JPY 15000"),
        ("1.5", "KWD", "KWD 1.500", "KWD 1.500"),
        ("10.005", "USD", "$10.005", "$10.005"),
        ("1E+3", "USD", "$1,000.00", "$1000.00"),
        ("0", "USD", "$0.00", "$0.00"),
    ],
)
def test_money_is_exact_in_its_currency(amount, currency, apart, together):
    said = Money(amount=Decimal(amount), currency=currency)

    assert (money(said), plain_money(said)) == (apart, together)


def test_rupees_are_written_by_their_code_where_the_sign_would_double_the_parts():
    rupees = Money(amount=Decimal(45_000), currency="INR")
    email = render(
        PRE_DUE, Channel.EMAIL, "en", values(amount=rupees), account=account(), takes_free_text=True
    )

    assert "₹45,000.00" in email.text.reveal("test")
    assert "INR 45,000.00" in sms(amount=rupees).text.reveal("test")
    assert sms(amount=rupees).segments == sms().segments == 2


@pytest.mark.parametrize(
    ("language", "short", "full"),
    [
        ("zh-CN", "11月3日", "2026年11月3日"),
        ("zh-Hant-TW", "11月3日", "2026年11月3日"),
        ("en", "3 Nov 2026", "3 Nov 2026"),
        ("de", "2026-11-03", "2026-11-03"),
    ],
)
def test_a_date_is_written_as_the_language_writes_it(language, short, full):
    context = {"day": date(2026, 11, 3)}

    assert produce("{{ day | date }}/{{ day | full_date }}", language, context) == f"{short}/{full}"


@pytest.mark.parametrize(
    ("text", "said"), [("a" * 20, "a" * 20), ("a" * 21, "a" * 19 + "…"), ("款" * 30, "款" * 19 + "…")]
)
def test_a_value_is_cut_where_the_provider_would_refuse_it(text, said):
    assert cut(text, 20) == said


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("zh-CN", "zh-CN"),
        ("ZH-cn", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("zh", "zh-CN"),
        ("en-GB", "en"),
        ("hi", "en"),
        ("", "en"),
    ],
)
def test_the_nearest_language_is_used_and_named(wanted, given):
    assert sms(wanted).language == given


def test_a_bound_account_speaks_the_languages_its_provider_has_templates_in():
    rendered = sms("en", using=account("aliyun_sms", "sms-cn", "示例信贷"))

    assert rendered.language == "zh-CN"
    assert rendered.code == "SMS_100000001"
    assert {name: value.reveal("test") for name, value in rendered.variables.items()} == {
        "name": "Alex Example",
        "amount": "$120.50",
        "date": "11月30日",
    }
    assert rendered.text.reveal("test").startswith("【示例信贷】Alex Example您好")


def test_an_account_that_needs_a_binding_and_has_none_is_refused():
    with pytest.raises(BadInput) as caught:
        sms(using=account("aliyun_sms", "another"))

    assert caught.value.code == "template_unbound"


def test_the_hash_is_of_the_text_and_of_both_stages_of_a_call():
    text = sms()
    call = render(
        PRE_DUE, Channel.VOICE, "en", values(), account=account("twilio_voice"), takes_free_text=True
    )
    both = call.text.reveal("test") + "\n" + call.second.reveal("test")

    assert text.sha256 == sha256(text.text.reveal("test").encode()).hexdigest()
    assert call.sha256 == sha256(both.encode()).hexdigest()


def test_segments_count_what_was_filled_in():
    assert sms().segments == 1 + (len(sms().text.reveal("test")) > 160)
    assert sms(name=Pii("款" * 100)).segments > sms().segments
    assert (
        render(PRE_DUE, Channel.EMAIL, "en", values(), account=account(), takes_free_text=True).segments == 1
    )


def test_a_value_is_never_read_as_a_template():
    text = sms(name=Pii("{{ amount | money }}{% assign name = 1 %}")).text.reveal("test")

    assert "Hello {{ amount | money }}{% assign name = 1 %}," in text


def test_what_was_rendered_does_not_print():
    assert "Alex" not in repr(sms())
    assert "Alex" not in repr(values())


# What a value may be

HOSTILE = [
    ("a line break", "https://pay.example.com/\nBcc: x"),
    ("a carriage return", "https://pay.example.com/\r"),
    ("a NUL", "https://pay.example.com/\x00"),
    ("a C1 control", "https://pay.example.com/\x85"),
    ("a line separator", "https://pay.example.com/\u2028"),
    ("a bidi override", "https://pay.example.com/\u202egnp.exe"),
    ("a bidi isolate", "https://pay.example.com/\u2066"),
    ("a second signature", "https://pay.example.com/【假签名】"),
    ("an encoded word", "https://pay.example.com/?x==?utf-8?q?x?="),
    ("half a character", "https://pay.example.com/\ud83d"),
    ("too long a value", "https://pay.example.com/" + "a" * 489),
    ("a space", "https://pay.example.com/a b"),
    ("a host that looks like another", "https://p\u0430y.example.com/"),
    ("no host", "https:///pay"),
    ("only a path", "/pay"),
    ("a script", "javascript:alert(1)"),
    ("plain http", "http://pay.example.com/"),
    ("plain http to a private address", "http://10.0.0.1/"),
    ("a user in front of the host", "https://pay.example.com@evil.example/"),
    ("a backslash", "https://pay.example.com\\@evil.example/"),
    ("a port that is no number", "https://pay.example.com:http/"),
    ("an open bracket", "https://[::1/"),
    ("markup", 'https://pay.example.com/"><script>'),
    ("a number", 7),
    ("a list", ["https://pay.example.com/"]),
]


@pytest.mark.parametrize(("case", "value"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_an_address_to_pay_at_is_refused_with(case, value):
    found = check_facts(PRE_DUE, {"pay_url": value})

    assert [(fault.at, fault.code) for fault in found] == [("/facts/pay_url", "fact_invalid")]
    assert str(value) not in found[0].message


@pytest.mark.parametrize(
    "value",
    [
        "https://pay.example.com",
        PAY_URL,
        "HTTPS://PAY.EXAMPLE.COM:8443/~a/%E8%BF%98#x",
        "https://pay.example.com/" + "a" * 488,
        "http://127.0.0.1:8080/pay",
        "http://localhost/pay",
        "http://[::1]:8080/pay",
    ],
)
def test_an_https_address_is_taken_and_http_on_this_machine(value):
    assert check_facts(PRE_DUE, {"pay_url": value}) == []


@pytest.mark.parametrize("facts", [{}, {"pay_url": None}, {"pay_url": ""}])
def test_a_missing_fact_is_named(facts):
    assert PRE_DUE.missing(facts) == ["pay_url"]
    assert [(fault.at, fault.code) for fault in check_facts(PRE_DUE, facts)] == [
        ("/facts/pay_url", "fact_missing")
    ]


def test_nothing_is_missing_when_all_is_there():
    assert PRE_DUE.missing({"pay_url": PAY_URL}) == []


def test_every_fault_of_the_facts_comes_at_once_and_none_repeats_what_was_sent():
    found = check_facts(PRE_DUE, {"13800138000": "x", "amount": "1"})

    assert [fault.code for fault in found] == ["fact_missing", "fact_unknown"]
    assert "13800138000" not in str(found)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "【银行】", "=?utf-8?q?a?=", "\u202eabc", "x" * 513])
def test_a_name_that_could_mislead_stops_the_text(name):
    with pytest.raises(BadInput) as caught:
        sms(name=Pii(name))

    assert [fault.at for fault in caught.value.faults] == ["/borrower/name"]


@pytest.mark.parametrize(
    "name", ["王示例", "O'Neil-Example", "Zoë", "श्री\u200dमान", "👩\u200d👧", "x" * 512, "阿依·示例"]
)
def test_real_names_are_plain(name):
    assert is_plain(name)


def test_rendering_with_a_missing_fact_names_it_instead_of_sending_half_a_text():
    with pytest.raises(BadInput) as caught:
        sms(facts={})

    assert caught.value.code == "fact_missing"


def test_a_text_that_grows_beyond_its_limit_is_refused():
    long = {"name": Pii("款" * 512), "creditor": "款" * 512}
    with pytest.raises(BadInput) as caught:
        render(PRE_DUE, Channel.EMAIL, "en", values(**long), account=account(), takes_free_text=True)

    assert caught.value.code == "text_too_long"


# When a text is true


@pytest.mark.parametrize(
    ("valid_while", "day_before", "same_day", "day_after"),
    [
        (ValidWhile.BEFORE_DUE, True, False, False),
        (ValidWhile.DUE_DATE_IS_TODAY, False, True, False),
        (ValidWhile.OVERDUE, False, False, True),
    ],
)
def test_a_text_is_true_on_some_dates_only(valid_while, day_before, same_day, day_after):
    due = date(2026, 12, 1)
    answers = [valid_while.holds(due, today) for today in (date(2026, 11, 30), due, date(2026, 12, 2))]

    assert answers == [day_before, same_day, day_after]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("+15005550006", "1 5 0 0 5 5 5 0 0 0 6"),
        ("10690", "1 0 6 9 0"),
        ("110", "1 1 0"),
        ("11", None),
        ("+1 500", None),
        ("1" * 16, None),
        ("reminders@example.com", None),
        ("", None),
    ],
)
def test_a_number_is_said_digit_by_digit_and_nothing_else_is(number, said):
    assert spoken(number) == said


SOURCES = sorted(
    {
        (source, language)
        for template in CATALOG.templates.values()
        for text in template.texts.values()
        for source, language in (
            (part, text.language) for part in (text.main, text.subject, text.second) if part
        )
    }
    | {
        (source, binding.language)
        for template in CATALOG.templates.values()
        for binding in template.bindings
        for source in binding.variables.values()
    }
)
ODD = [
    "{{ name }}",
    "{{name|cut:3}} {{ dpd }}",
    "{% if signature %}a{{ name }}{% else %}b{% endif %}c",
    "{% if signature %}a{% endif %}",
    "{% if signature %}a{% if name %}b{% endif %}{% endif %}",
    "{% if dpd != 1 %}s{% endif %}",
    "{%- if signature -%} a {%- endif -%}",
    "{% else %}",
    "{% if signature %}",
    "{% endif %}",
    "{{ missing }}",
    "{% if missing %}a{% endif %}",
    "{{ amount }}",
    "{{ amount | money | cut: 4 }}",
    "{{ name | money }}",
    "{{ name | nothing }}",
    "{{ name | cut }}",
    "{{ empty }}",
    "{{ true }}",
    "{% if blank %}a{% endif %}",
    "{{ 'name' }}",
    "{% raw %}{{ name }}{% endraw %}",
    "{% comment %}{{ name }}{% endcomment %}",
    "{% assign name = 'x' %}{{ name }}",
    "{{ name",
    "}} {{ name }}",
    "{{ name | cut: 2 }}" * 40,
]
CONTEXTS = st.fixed_dictionaries(
    {
        "name": st.text(max_size=30).filter(is_plain),
        "creditor": st.sampled_from(["示例信贷", "Example Credit", "", "{{ name }}", "{% if name %}"]),
        "amount": st.decimals(0, 10**7, places=2).map(lambda amount: Money(amount=amount, currency="CNY")),
        "due_date": st.dates(date(2026, 1, 1), date(2027, 12, 31)),
        "dpd": st.integers(0, 400),
        "signature": st.sampled_from([None, "示例信贷"]),
        "callback": st.sampled_from([None, "1 2 0"]),
        "pay_url": st.just("https://pay.example/1"),
    }
)


def by_the_library(source, language, context):
    try:
        return compiled(source, language).render(context).strip()
    except LiquidError as wrong:
        return type(wrong)


@settings(max_examples=40, deadline=None)
@given(CONTEXTS)
def test_what_is_filled_in_quickly_is_what_the_library_makes_of_it(context):
    quick = 0
    for source, language in [*SOURCES, *((source, "en") for source in ODD)]:
        made = quickly(source, language, context)
        assert made is None or made == by_the_library(source, language, context), source
        quick += made is not None
    assert quick > 0.9 * len(SOURCES)


@pytest.mark.parametrize(
    "source", ["{{ missing }}", "{{ name | money }}", "{{ name | cut }}", "{{ name", "{% else %}"]
)
def test_a_mistake_in_a_source_is_the_librarys_to_tell(source):
    with pytest.raises(LiquidError):
        produce(source, "en", {"name": "Li", "dpd": 1})
