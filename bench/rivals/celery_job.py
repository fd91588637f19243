"""(c) A Celery task per reminder, prefork, each child with its own kept connections.

celery -A celery_job worker -Q idle    (the stand lets it take from its queue)
"""

from __future__ import annotations

import asyncio
import os
import smtplib
from typing import Any

import asyncpg
from celery import Celery
from celery.signals import worker_process_init
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from obvious import (
    CAPS,
    INSERT,
    SENDER_MAIL,
    SENDER_NUMBER,
    Job,
    allowed_now,
    mail_of,
    row_of,
    text_of,
    twilio,
    with_uvloop,
)
from twilio.http.http_client import TwilioHttpClient

QUEUE, IDLE = "bench", "idle"
URL = f"redis://127.0.0.1:{os.environ['BENCH_REDIS']}"

app = Celery("bench", broker=URL)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=128,
    broker_transport_options={"priority_steps": [0]},
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    task_serializer="json",
)


class Child:
    """What one child process keeps open."""

    def __init__(self) -> None:
        with_uvloop()
        self.limiter = MovingWindowRateLimiter(RedisStorage(URL))
        self.twilio = twilio(TwilioHttpClient(timeout=30))
        self.smtp = smtplib.SMTP(timeout=30)
        self.loop = asyncio.new_event_loop()
        self.rows = self.loop.run_until_complete(asyncpg.connect(os.environ["BENCH_POSTGRES"]))

    def send(self, job: Job, subject: str, text: str) -> str | None:
        """Hand one over; the provider's id."""
        if job["channel"] == "sms":
            made = self.twilio.messages.create(to=job["address"], body=text, from_=SENDER_NUMBER)
            return str(made.sid)
        if self.smtp.sock is None:
            self.smtp.connect("127.0.0.1", int(os.environ["BENCH_SMTP"]))
        self.smtp.sendmail(SENDER_MAIL, [job["address"]], mail_of(job, subject, text))
        return None

    def write(self, row: tuple[Any, ...]) -> None:
        """One row."""
        self.loop.run_until_complete(self.rows.execute(INSERT, *row))


child: Child


@worker_process_init.connect  # type: ignore[untyped-decorator]
def begin(**_: object) -> None:
    """A child opens its own connections."""
    global child  # noqa: PLW0603 (Celery's tasks are functions; this is what a process has)
    child = Child()


@app.task(bind=True, max_retries=3)  # type: ignore[untyped-decorator]
def remind(self: Any, job: Job) -> None:
    """Reach one borrower."""
    if not allowed_now(job):
        raise self.retry(countdown=600)
    if not all(child.limiter.hit(cap, job["borrower"]) for cap in CAPS):
        return
    subject, text = text_of(job)
    try:
        provider_id = child.send(job, subject, text)
    except OSError as failed:
        raise self.retry(exc=failed, countdown=5) from failed
    child.write(row_of(job, text, provider_id))
