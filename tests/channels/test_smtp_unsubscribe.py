"""One-click unsubscribing over HTTP (RFC 8058): a GET changes nothing, the right POST opts out."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession, FormData, MultipartWriter
from rig import open_door
from smtp_peer import REF, mailer

from gateway.domain import Outcome, Receipt

OPT_OUT = Receipt(outcome=Outcome.DELIVERED, ref=REF, code="unsubscribe", opt_out=True)


async def visit(method: str, **request):
    """Call the door as a browser or a mail program does: status, page, receipts."""
    async with mailer(1) as adapter, open_door() as door, ClientSession() as http:
        door.adapter = adapter
        async with http.request(method, f"{door.url}/{REF}", allow_redirects=False, **request) as answer:
            return answer.status, await answer.text(), door.receipts


async def test_a_get_shows_a_page_with_a_button_and_changes_nothing():
    status, page, receipts = await visit("GET")

    assert status == 200
    assert receipts == []
    assert '<form method="post">' in page
    assert 'name="List-Unsubscribe" value="One-Click"' in page
    assert "退订" in page
    assert "Unsubscribe" in page
    assert "http" not in page
    assert "<script" not in page


async def test_a_head_changes_nothing():
    status, _, receipts = await visit("HEAD")

    assert (status, receipts) == (200, [])


async def test_the_post_of_a_mail_program_opts_out():
    status, page, receipts = await visit("POST", data={"List-Unsubscribe": "One-Click"})

    assert (status, receipts) == (200, [OPT_OUT])
    assert "已退订" in page
    assert "<form" not in page


async def test_a_multipart_post_opts_out_too():
    form = FormData(default_to_multipart=True)
    form.add_field("List-Unsubscribe", "One-Click")
    status, _, receipts = await visit("POST", data=form)

    assert (status, receipts) == (200, [OPT_OUT])


def multipart(name: str, value: str):
    with MultipartWriter("form-data") as writer:
        writer.append(value).set_content_disposition("form-data", name=name)
    return writer


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"data": b""},
        {"data": {"List-Unsubscribe": "Two-Click"}},
        {"data": {"Unsubscribe": "One-Click"}},
        {"data": {"List-Unsubscribe": "One-Click" + "k" * 5000}},
        {"data": b"x" * 5000 + b"&List-Unsubscribe=One-Click"},
        {"data": multipart("List-Unsubscribe", "no")},
        {"data": multipart("other", "One-Click")},
        {"data": b"One-Click", "headers": {"Content-Type": "multipart/form-data"}},
        {"params": {"List-Unsubscribe": "One-Click"}},
        {"json": {"List-Unsubscribe": "One-Click"}},
    ],
)
async def test_any_other_post_changes_nothing(request_):
    status, _, receipts = await visit("POST", **request_)

    assert (status, receipts) == (400, [])


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
async def test_any_other_method_changes_nothing(method):
    status, _, receipts = await visit(method, data={"List-Unsubscribe": "One-Click"})

    assert (status, receipts) == (405, [])
