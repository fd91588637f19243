"""The shipped templates: all there, all fillable, careful with what they say and to whom."""

import itertools
import re
from datetime import date
from decimal import Decimal
from time import perf_counter

import pytest

from gateway.domain import Account, Channel, Mode, Money
from gateway.masking import Pii
from gateway.templating import Catalog, Values, render

NAMES = ("pre_due", "due_today", "overdue_gentle", "overdue_firm", "care")
LANGUAGES = ("zh-CN", "en")
BORROWERS = {
    "zh-CN": ("王示例", Money(amount=Decimal("1280.50"), currency="CNY")),
    "en": ("Alex Example", Money(amount=Decimal("120.5"), currency="USD")),
}
CATALOG = Catalog.load()
PAIRS = list(itertools.product(NAMES, LANGUAGES))
EVERY = list(itertools.product(NAMES, Channel, LANGUAGES))
PAY_URL = "https://pay.example.com/L-1"


def account(adapter, name, sender="+15005550006"):
    return Account(tenant="default/test", name=name, mode=Mode.TEST, adapter=adapter, sender=sender)


MAINLAND = account("aliyun_sms", "sms-cn", "示例信贷")
WECHAT = account("wechat", "wechat", "示例信贷")
FREE = {
    Channel.SMS: account("twilio_sms", "sms-intl"),
    Channel.EMAIL: account("smtp", "mail", "reminders@example.com"),
    Channel.VOICE: account("twilio_voice", "voice"),
}


def values(language):
    name, amount = BORROWERS[language]
    return Values(
        name=Pii(name),
        creditor="Example Credit",
        amount=amount,
        due_date=date(2026, 11, 30),
        dpd=3,
        facts={"pay_url": PAY_URL},
    )


def written(template, channel, language):
    using = WECHAT if channel is Channel.WECHAT else FREE[channel]
    return render(
        CATALOG.get(template),
        channel,
        language,
        values(language),
        account=using,
        takes_free_text=channel is not Channel.WECHAT,
    )


def all_said(rendered):
    parts = (rendered.subject, rendered.text, rendered.second)
    return "\n".join(part.reveal("test") for part in parts if part)


@pytest.mark.parametrize(("template", "channel", "language"), EVERY)
def test_every_template_fills_in_on_every_channel_in_every_language(template, channel, language):
    rendered = written(template, channel, language)
    said = all_said(rendered)

    assert rendered.language == language
    assert BORROWERS[language][0] in said
    assert "{" not in said
    assert "Money(" not in said
    assert ("30 Nov 2026" in said or "11月30日" in said) == (template != "care")
    assert (PAY_URL in said) == (channel is not Channel.VOICE)
    assert (rendered.subject is not None) == (channel is Channel.EMAIL)
    assert (rendered.second is not None) == (channel is Channel.VOICE)
    assert (rendered.code is not None) == (channel is Channel.WECHAT)


@pytest.mark.parametrize("template", NAMES)
def test_a_mainland_sms_is_signed_needs_no_address_and_says_how_to_refuse(template):
    rendered = render(
        CATALOG.get(template), Channel.SMS, "zh-CN", values("zh-CN"), account=MAINLAND, takes_free_text=False
    )
    text = rendered.text.reveal("test")

    assert text.startswith("【示例信贷】王示例您好")
    assert text.endswith("拒收请回复R")
    assert "http" not in text
    assert not any("http" in value.reveal("test") for value in rendered.variables.values())
    assert rendered.code.startswith("SMS_")
    assert rendered.segments <= 2


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_an_sms_elsewhere_names_the_creditor_first_and_ends_with_how_to_opt_out(template, language):
    text = written(template, Channel.SMS, language).text.reveal("test")

    assert text.startswith("Example Credit")
    assert text.endswith({"en": "Reply STOP to opt out.", "zh-CN": "回复STOP退订"}[language])
    assert "【" not in text


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_what_wechat_is_given_stands_in_the_recorded_text_and_keeps_its_limits(template, language):
    rendered = written(template, Channel.WECHAT, language)
    text = rendered.text.reveal("test")

    for name, value in rendered.variables.items():
        assert value.reveal("test") in text
        if name.startswith("thing"):
            assert len(value.reveal("test")) <= 20
        if name.startswith("amount"):
            assert re.fullmatch(r"[¥$]\d+\.\d\d", value.reveal("test"))


DEBT_WORDS = re.compile(
    r"pay|debt|due|owe|loan|amount|credit card|collect|¥|\$|\d{2}|还款|借款|贷|欠|债|逾期|到期|金额|催",
    re.IGNORECASE,
)


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_whoever_answers_a_call_hears_of_no_debt(template, language):
    """15 USC 1692c(b), 47 CFR 64.1200(b)(1): the caller is named, the claim is not."""
    first = written(template, Channel.VOICE, language).text.reveal("test")

    assert "Example Credit" in first
    assert BORROWERS[language][0] in first
    assert all(key in first for key in "19")
    assert not DEBT_WORDS.search(first)


ANNOUNCED = {
    "en": "This is an automated call in a computer-generated voice",
    "zh-CN": "这是一通使用合成语音的自动电话",
}


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_a_call_says_first_that_a_machine_speaks_and_then_which_number_answers(template, language):
    """47 CFR 64.1200(b)(1)-(2)."""
    first = written(template, Channel.VOICE, language).text.reveal("test")

    assert first.index(ANNOUNCED[language]) < 10
    assert first.index(ANNOUNCED[language]) < first.index("Example Credit")
    assert "1 5 0 0 5 5 5 0 0 0 6" in first.splitlines()[-1]


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_a_call_of_an_account_without_a_number_names_none(template, language):
    voice = account("other_voice", "voice", "sip:example")
    rendered = render(
        CATALOG.get(template), Channel.VOICE, language, values(language), account=voice, takes_free_text=True
    )

    assert len(rendered.text.reveal("test").splitlines()) == 3


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_a_wechat_message_names_the_creditor_and_how_to_opt_out(template, language):
    text = written(template, Channel.WECHAT, language).text.reveal("test")

    assert "Example Credit" in text
    assert {"en": "Unfollow to opt out", "zh-CN": "取消关注"}[language] in text


@pytest.mark.parametrize(("template", "language"), PAIRS)
def test_the_subject_of_an_email_tells_of_no_debt(template, language):
    subject = written(template, Channel.EMAIL, language).subject.reveal("test")

    assert subject
    assert not DEBT_WORDS.search(subject)


THREATS = re.compile(
    r"legal|court|lawsuit|sue\b|police|arrest|blacklist|credit (score|report|bureau)|employer|family"
    r"|immediately|or else|final|warning|penalt"
    r"|起诉|法院|律师|警|征信|黑名单|失信|后果|立即|务必|最后|家人|单位|亲属|强制",
    re.IGNORECASE,
)


@pytest.mark.parametrize(("template", "channel", "language"), EVERY)
def test_no_template_threatens_or_presses(template, channel, language):
    assert not THREATS.search(all_said(written(template, channel, language)))


@pytest.mark.parametrize(
    ("template", "valid_while", "hours"),
    [
        ("pre_due", "before_due", 72),
        ("due_today", "due_date_is_today", 24),
        ("overdue_gentle", "overdue", 72),
        ("overdue_firm", "overdue", 72),
        ("care", None, 168),
    ],
)
def test_every_template_says_how_long_it_may_wait_and_when_it_is_true(template, valid_while, hours):
    made = CATALOG.get(template)

    assert made.valid_while == valid_while
    assert made.expires_after.total_seconds() == hours * 3600
    assert made.facts == {"pay_url"}
    assert made.approved
    assert made.version == 2


def test_there_is_no_other_template():
    assert set(CATALOG.templates) == set(NAMES)
    assert CATALOG.get("threat") is None


def test_five_thousand_texts_a_second_can_be_filled_in():
    """The best of several short runs, so that a busy machine does not decide."""
    made, said, using = CATALOG.get("overdue_firm"), values("en"), FREE[Channel.SMS]

    def run():
        start = perf_counter()
        for _ in range(200):
            render(made, Channel.SMS, "en", said, account=using, takes_free_text=True)
        return 200 / (perf_counter() - start)

    assert max(run() for _ in range(10)) >= 5_000
