"""Rules of kind `content`: how blocks are recognised in a text, and what is said of one that breaks a rule."""

from dataclasses import replace
from datetime import UTC, date, datetime
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.content import START, Part, Said, blocks, breaches, concerning, stands
from gateway.policy.model import Content, FromFact, Pack, Question

LANGUAGES = {"de", "el", "en", "es", "fr", "id", "ja", "ko", "pt", "ru", "th", "vi", "zh"}
BLOCKS = blocks()
EXAMPLES = [(name, language) for name, block in BLOCKS.items() for language in block.example]
WIDE = {at: at + 0xFEE0 for at in range(0x21, 0x7F)}
"""ASCII to its full-width forms."""
HARD = ["reply " * 9, "1 ", "1-1", "reply with ", "call ", "回复", "您的", "受", "$", "( ", "2026-11-30"]


def said(text, language="en", **more):
    return Said(**{"channel": "sms", "language": language, "opening": text, **more})


def stand(name, text, language="en", **more):
    return stands(BLOCKS[name], said(text, language, **more))


def rule(**more):
    return Content(**{"id": "X.LINE", "cite": "X 1(a)", "require": (), "forbid": (), **more})


def codes(text, language="en", **more):
    return [breach.code for breach in breaches([rule(**more)], said(text, language))]


def test_there_are_the_eight_blocks_that_packs_may_name():
    assert set(BLOCKS) == {
        *("optout_instruction", "creditor_name", "agency_identity", "callback_number"),
        *("ai_announcement", "consequence_threat", "legal_lookalike", "debt_detail"),
    }


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - {"creditor_name"}))
def test_a_block_of_phrases_is_known_in_every_language(name):
    assert set(BLOCKS[name].languages) == LANGUAGES


@pytest.mark.parametrize(("name", "language"), EXAMPLES)
def test_an_example_is_recognised_and_forbids_nothing(name, language):
    example = BLOCKS[name].example[language].replace("{phone}", "+1 212 555 0100")

    assert stand(name, example, language)
    assert not stand("consequence_threat", example, language)
    assert not stand("legal_lookalike", example, language)


TEXTS = [
    ("optout_instruction", "en", "Reply STOP to opt out.", True),
    ("optout_instruction", "en", "reply STOP".translate(WIDE), True),
    ("optout_instruction", "en", "use “Unsubscribe” in your\nmail program", True),
    ("optout_instruction", "en", "reply to this message with 'STOP'", True),
    ("optout_instruction", "en", "Re\u200bply S\u00adTOP", True),
    ("optout_instruction", "en-GB", "Reply STOP", True),
    ("optout_instruction", "en", "Please reply. We never stop.", True),
    ("optout_instruction", "en", "Reply nonstop, we are unstoppable", False),
    ("optout_instruction", "en", "Please pay by Friday.", False),
    ("optout_instruction", "en", f"reply{'.' * 24}stop", True),
    ("optout_instruction", "en", f"reply{'.' * 25}stop", False),
    ("optout_instruction", "zh-CN", "拒收请回复R", True),
    ("optout_instruction", "zh-CN", "回复TD退订", True),
    ("optout_instruction", "zh-CN", "回复STOP即可", True),
    ("optout_instruction", "zh-TW", "回覆 STOP 即可退訂", True),
    ("optout_instruction", "zh-CN", "请尽快还款。", False),
    ("optout_instruction", "zh-CN", "Reply STOP", False),
    ("optout_instruction", "vi", "Tu choi nhan tin, soan TC gui 1551", True),
    ("optout_instruction", "ru", "Ответьте «СТОП», чтобы не получать сообщения", True),
    ("callback_number", "en", "Call us on +1 (212) 555-0100.", True),
    ("callback_number", "en", "Tel. 4001234567", True),
    ("callback_number", "en", "Call us before 2026-11-30.", False),
    ("callback_number", "en", "Call us about your $1,280.50.", False),
    ("callback_number", "en", "Call us on 555-012", False),
    ("callback_number", "zh-CN", "请致电 400-123-4567", True),
    ("callback_number", "zh-CN", "请致电我们", False),
    ("agency_identity", "en", "Example Agency on behalf of Example Credit", True),
    ("agency_identity", "en", "This is Example Credit", False),
    ("agency_identity", "zh-CN", "受示例信贷委托与您联系", True),
    ("agency_identity", "zh-CN", "接受您的申请", False),
    ("ai_announcement", "en", "Hello. This is an automated call from Example Credit.", True),
    ("ai_announcement", "en", "Hello, this is Alex of Example Credit.", False),
    ("ai_announcement", "zh-CN", "您好。我是AI语音助手", True),
    ("ai_announcement", "zh-CN", "您好。我是小王", False),
    ("consequence_threat", "en", "or we will take LEGAL ACTION", True),
    ("consequence_threat", "en", "We will look for a way together. Policeman's ball", False),
    ("consequence_threat", "zh-CN", "否则将影响您的征信", True),
    ("consequence_threat", "zh-CN", "我们愿意与您一起商量", False),
    ("legal_lookalike", "en", "SUMMONS: please attend", True),
    ("legal_lookalike", "en", "We summon up good cheer", False),
    ("legal_lookalike", "zh-CN", "【律师函】", True),
    ("debt_detail", "en", "Your payment of $5 is late", True),
    ("debt_detail", "en", "Something of ₫5000", True),
    ("debt_detail", "en", "Please ask Alex to call us back. Indebted to you", False),
    ("debt_detail", "vi", "Tổng 5000đ", True),
    ("debt_detail", "ru", "Сумма 100 рублей", True),
    ("debt_detail", "zh-CN", "您有500元待处理", True),
    ("debt_detail", "zh-CN", "请转告王先生与我们联系", False),
    ("debt_detail", "hi", "₹500", True),
]


@pytest.mark.parametrize(("name", "language", "text", "there"), TEXTS)
def test_a_block_stands_in_a_text_or_not(name, language, text, there):
    assert stand(name, text, language) is there


@pytest.mark.parametrize(("letters", "there"), [(START - 14, True), (START - 13, False)])
def test_an_announcement_comes_before_anything_else(letters, there):
    text = "x" * (letters - 1) + " automated call"[: 1 + len("automated call")]

    assert len("automated call") == 14
    assert stand("ai_announcement", text) is there


def test_what_is_told_only_to_the_right_person_is_not_told_to_anyone():
    assert not stand("debt_detail", "Hello, this is Example Credit.", rest="Your loan is overdue.")
    assert stand("debt_detail", "Hello, your loan is overdue.")
    assert stand("consequence_threat", "Hello.", rest="We will take legal action.")
    assert BLOCKS["debt_detail"].part is Part.OPENING


# Values of one text

CREDITOR = {"creditor_name": ["Example Credit", "示例信贷"]}


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("EXAMPLE  CREDIT: hello", True),
        ("【示例信贷】您好", True),
        ("Example Creditors: hello", False),
        ("NonExample Credit: hello, Example Credit", True),
        ("Hello", False),
    ],
)
def test_a_creditor_is_found_by_its_name_in_any_language(text, there):
    assert stand("creditor_name", text, "hi", values=CREDITOR) is there


def test_a_creditor_that_nobody_named_cannot_be_looked_for():
    assert stand("creditor_name", "Example Credit: hello") is None


def test_the_number_that_calls_is_found_where_it_is_said():
    values = {"callback_number": ["1 5 0 0 5 5 5 0 0 0 6"]}

    assert stand("callback_number", "You reach us under 1 5 0 0 5 5 5 0 0 0 6.", values=values)
    assert stand("callback_number", "1 5 0 0 5 5 5 0 0 0 6", "hi", values=values)
    assert stand("callback_number", "You reach us under 1 5 0 0 5 5 5 0 0 0 66.", values=values) is False


@pytest.mark.parametrize(
    "name",
    ["Police Credit Union", "Sheriff & Sons", "警方信贷", "Legal Action"],
    ids=["en", "e2", "zh", "e3"],
)
def test_a_name_is_no_threat(name):
    text = f"{name}: hello {name}, please talk to us"
    language = "zh" if name.startswith("警") else "en"
    forbidden = rule(forbid=("consequence_threat", "legal_lookalike"))

    assert breaches([forbidden], said(text, language, names=[name])) == []
    assert breaches([forbidden], said(text, language)) != []
    assert breaches([forbidden], said(f"{text} or face jail 坐牢", language, names=[name])) != []


@pytest.mark.parametrize("name", ["Al", "e", "L"])
def test_a_short_name_hides_no_threat(name):
    forbidden = rule(forbid=("consequence_threat",))

    assert breaches([forbidden], said(f"{name}, legal action follows", names=[name])) != []


# What is said of it


def test_a_missing_block_is_told_with_its_rule_its_law_and_a_wording():
    (breach,) = breaches([rule(require=("optout_instruction",))], said("Hello Alex"))
    fault = breach.fault("pre_due/sms.en.liquid")

    assert breach.enforced
    assert (fault.at, fault.code) == ("pre_due/sms.en.liquid", "content_missing")
    assert fault.message == (
        "X.LINE (X 1(a)): this text (sms, en) lacks optout_instruction: say how to refuse further messages,"
        " such as: Reply STOP to opt out."
    )


def test_a_forbidden_block_is_told_without_a_word_of_the_text():
    (breach,) = breaches([rule(forbid=("consequence_threat",))], said("Alex, we will sue you"))
    message = breach.fault("/").message

    assert breach.code == "content_forbidden"
    assert breach.enforced
    assert "threaten nothing" in message
    assert "Alex" not in message
    assert "sue" not in message


def test_every_fault_of_a_text_comes_at_once():
    wanted = {"require": ("optout_instruction", "agency_identity"), "forbid": ("legal_lookalike",)}

    assert codes("summons", **wanted) == ["content_missing", "content_missing", "content_forbidden"]
    assert codes("On behalf of Example Credit. Reply STOP", **wanted) == []


def test_what_cannot_be_read_never_passes_for_what_is_required():
    (needed,) = breaches([rule(require=("optout_instruction",))], said("STOP उत्तर दें", "hi"))
    (barred,) = breaches([rule(forbid=("consequence_threat",))], said("उत्तर दें", "hi"))

    assert needed.code == barred.code == "content_unreadable"
    assert needed.enforced
    assert not barred.enforced
    assert "de, el, en" in needed.fault("/").message


@pytest.mark.parametrize(
    "shadow", [{"force": "draft"}, {"unsure": "a summary only"}], ids=["draft", "unsure"]
)
def test_a_rule_in_shadow_is_told_and_not_enforced(shadow):
    (breach,) = breaches([rule(require=("optout_instruction",), **shadow)], said("Hello"))

    assert breach.code == "content_missing"
    assert not breach.enforced


# Bounds


@pytest.mark.parametrize("piece", HARD)
def test_no_text_makes_the_search_slow(piece):
    text = (piece * 16_384)[:16_384]
    started = perf_counter()
    for name in BLOCKS:
        for language in ("en", "zh", "ru"):
            stand(name, text, language)

    assert perf_counter() - started < 2


@given(before=st.text(max_size=50), after=st.text(max_size=50))
def test_what_stands_around_a_block_does_not_hide_it(before, after):
    for language in ("en", "zh", "th"):
        example = BLOCKS["optout_instruction"].example[language]

        assert stand("optout_instruction", f"{before} {example} {after}", language)


def test_a_block_without_phrases_or_values_says_nothing():
    bare = replace(BLOCKS["creditor_name"], name="bare")

    assert stands(bare, said("anything")) is None


# Which rules bind

AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
"""10:00 in Shanghai; still the 23rd, 21:00, in New York."""
SMS = Question(channel="sms", purpose="collection", actor_role="creditor", technology=None)


def binding(question=SMS, *, zones=("Asia/Shanghai",), facts=None, **keys):
    made = rule(require=("optout_instruction",), **keys)
    return bool(concerning([Pack(id="X", rules=(made,))], question, facts=facts or {}, zones=zones, at=AT))


@pytest.mark.parametrize(
    ("keys", "binds"),
    [
        ({}, True),
        ({"channels": frozenset({"sms"})}, True),
        ({"channels": frozenset({"voice"})}, False),
        ({"purposes": frozenset({"relay_request"})}, False),
        ({"exempt_purposes": frozenset({"collection"})}, False),
        ({"actors": frozenset({"agency"})}, False),
        ({"institutions": frozenset({"bank"})}, True),
        ({"technologies": frozenset({"ai_voice"})}, True),
        ({"since": date(2026, 11, 24)}, True),
        ({"since": date(2026, 11, 25)}, False),
        ({"until": date(2026, 11, 25)}, True),
        ({"until": date(2026, 11, 24)}, False),
        ({"until": date(2026, 11, 24), "zone": "America/New_York"}, True),
        ({"since_fact": FromFact(fact="due_date", plus_dates=1)}, True),
        ({"since_fact": FromFact(fact="due_date", plus_dates=2)}, False),
        ({"since_fact": FromFact(fact="never_set", plus_dates=2)}, True),
        ({"force": "draft"}, True),
    ],
)
def test_a_rule_on_content_binds_as_any_rule_concerns_a_reminder(keys, binds):
    assert binding(facts={"due_date": date(2026, 11, 23)}, **keys) is binds


def test_a_rule_on_content_binds_that_is_in_force_in_any_of_the_zones():
    assert binding(zones=("Asia/Shanghai", "America/New_York"), until=date(2026, 11, 24))
    assert not binding(zones=("Asia/Shanghai", "America/New_York"), until=date(2026, 11, 23))
