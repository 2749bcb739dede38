"""One job: it commits with its first frames and ends exactly once, whatever the ending."""

from __future__ import annotations

import gc
import weakref
from typing import get_args

import pytest
from support.builders.jobs import LONG, MODEL, Client, Tap, make_deployment, make_job, take
from support.fakes.answers import USAGE, chunk, event, events_of

from workers.errors import (
    Draining,
    GatewayError,
    InvalidKey,
    UpstreamDisconnected,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.providers.formats import TRANSLATORS
from workers.providers.translator import Translator
from workers.request.token_usage import Usage
from workers.run.job import Ending, Job, JobEnded, Outcome
from workers.run.queue import FairQueue

ENDINGS: tuple[Ending, ...] = get_args(Ending)
DEPLOYMENT = make_deployment()


def translator_of(job: Job) -> Translator:
    """Make the translator of an attempt."""
    return TRANSLATORS["openai"](job.request, MODEL, DEPLOYMENT, 1 << 20)


def begun(job: Job, *, sent: bool = True) -> tuple[Translator, Tap]:
    """Take a job upstream."""
    tap, translator = Tap(sent=sent), translator_of(job)
    job.pick_up()
    job.begin(DEPLOYMENT, translator, tap)
    return translator, tap


@pytest.mark.parametrize("state", ["new", "queued", "connecting", "streaming"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_ending_settles_once_and_tells_the_client_once(
    ending: Ending, state: str
) -> None:
    outcomes: list[Outcome] = []
    ends: list[Job] = []
    queue = FairQueue(4, 1)
    job, client = make_job(settle=outcomes.append), Client()
    job.on_end = ends.append
    job.channel.attach(client)
    if state == "queued":
        queue.put(job)
    elif state != "new":
        begun(job)
        job.push(b"data: x\n\n" if state == "streaming" else b"")
    assert job.state == state
    error = GatewayError() if ending not in ("finished", "cancelled") else None
    job.close(ending, error)
    assert job.ended
    for other in ENDINGS:
        job.close(other, UpstreamUnavailable())
    job.cancel()
    assert [outcome.ending for outcome in outcomes] == [ending]
    assert outcomes[0].error is error
    assert client.ends == [error]
    assert ends == [job]
    assert (len(queue), job.place()) == (0, None)


async def test_the_outcome_tells_what_the_ledger_needs() -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    translator, _ = begun(job)
    for each in events_of(["Hel", "lo"], usage=USAGE):
        job.push(translator.feed(each))
    job.close("finished")
    (outcome,) = outcomes
    assert outcome.usage == Usage(11, 7, 18)
    assert outcome.output_bytes == 5
    assert outcome.prompt_sent
    assert outcome.deployment == DEPLOYMENT.id
    assert outcome.attempts == (), "one that answered needs no line"
    assert outcome.error is None
    assert outcome.ttft_s is not None
    assert 0 <= outcome.queued_s <= outcome.ttft_s <= outcome.duration_s


async def test_the_times_of_an_outcome_count_from_the_making_of_the_job() -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    job.created -= 10
    begun(job)
    job.push(b"data: x\n\n")
    job.close("finished")
    (outcome,) = outcomes
    assert outcome.ttft_s is not None
    assert 10 <= outcome.queued_s <= outcome.ttft_s <= outcome.duration_s


async def test_a_job_cancelled_in_the_queue_has_cost_nothing() -> None:
    outcomes: list[Outcome] = []
    queue = FairQueue(4, 1)
    job, client = make_job(settle=outcomes.append), Client()
    job.channel.attach(client)
    queue.put(job)
    job.created -= 7
    job.cancel()
    (outcome,) = outcomes
    assert outcome.ending == "cancelled"
    assert not outcome.prompt_sent
    assert (outcome.usage, outcome.output_bytes, outcome.attempts) == (None, 0, ())
    assert (outcome.deployment, outcome.ttft_s) == (None, None)
    assert outcome.queued_s == outcome.duration_s >= 7
    assert client.ends == [None]
    assert len(queue) == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_a_prompt_counts_as_sent_when_the_upstreams_socket_has_it(sent: bool) -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    begun(job, sent=sent)
    job.cancel()
    assert outcomes[0].prompt_sent is sent


async def test_a_prompt_that_was_answered_counts_as_sent() -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    begun(job, sent=False)
    job.push(b"data: x\n\n")
    job.cancel()
    assert outcomes[0].prompt_sent


async def test_the_text_seen_before_a_cut_is_counted_for_an_estimate() -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    translator, _ = begun(job)
    job.push(translator.feed(b"".join(events_of(["Hello"], finish=None, done=False))))
    job.close("cut", UpstreamDisconnected())
    assert outcomes[0].usage is None
    assert outcomes[0].output_bytes == 5


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_ending_but_the_finished_one_stops_the_upstream_at_once(
    ending: Ending,
) -> None:
    job = make_job()
    _, tap = begun(job)
    job.close(ending)
    assert tap.calls == ([] if ending == "finished" else ["abort"])
    assert isinstance(tap.error, JobEnded | None)


async def test_the_exchange_that_is_stopped_is_the_last_attempts() -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    _, first = begun(job)
    second = Tap(sent=False)
    other = make_deployment("b")
    job.note_failure(UpstreamUnavailable())
    job.begin(other, translator_of(job), second)
    job.cancel()
    assert (first.calls, second.calls) == ([], ["abort"])
    assert outcomes[0].deployment == other.id
    assert [(one.deployment, one.ending) for one in outcomes[0].attempts] == [
        (DEPLOYMENT.id, "upstream_unavailable"),
        (other.id, "cancelled"),
    ]


@pytest.mark.parametrize(
    ("ending", "error", "told"),
    [
        ("finished", None, []),
        ("cancelled", None, ["cancelled"]),
        ("cancelled", InvalidKey("revoked"), ["cancelled"]),
        ("drained", Draining(), ["server_is_draining"]),
        ("failed", GatewayError(), ["server_error"]),
        ("cut", UpstreamTimeout("gap", 1.0), ["upstream_gap_timeout"]),
        ("failed", UpstreamRejected("said", code="said"), ["upstream_rejected"]),
        ("failed", UpstreamRateLimited("said"), ["upstream_rate_limited"]),
    ],
)
async def test_an_attempt_ends_with_its_job(
    ending: Ending, error: GatewayError | None, told: list[str]
) -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    begun(job)
    job.close(ending, error)
    assert [attempt.ending for attempt in outcomes[0].attempts] == told


async def test_the_first_frames_commit_a_job_and_nothing_else_does() -> None:
    job, client = make_job(), Client()
    job.channel.attach(client)
    told = [(job.committed, job.state)]
    begun(job)
    for frames in (b"", b"data: x\n\n"):
        job.push(frames)
        told.append((job.committed, job.state))
    assert told == [(False, "new"), (False, "connecting"), (True, "streaming")]
    assert client.writes == [b"data: x\n\n"]


async def test_an_answer_in_one_piece_commits_and_finishes_its_job() -> None:
    outcomes: list[Outcome] = []
    job, client = make_job(settle=outcomes.append), Client()
    job.channel.attach(client)
    begun(job)
    job.finish(b"data: x\n\n")
    job.finish(b"data: y\n\n")
    assert client.writes == [b"data: x\n\n"]
    assert client.ends == [None]
    assert [outcome.ending for outcome in outcomes] == ["finished"]
    assert outcomes[0].ttft_s is not None
    assert outcomes[0].prompt_sent


async def test_an_answer_that_comes_after_its_client_left_changes_nothing() -> None:
    outcomes: list[Outcome] = []
    job, client = make_job(settle=outcomes.append), Client()
    job.channel.attach(client)
    begun(job, sent=False)
    job.cancel()
    job.finish(b"data: x\n\n")
    assert client.writes == []
    assert not job.committed
    assert [outcome.ending for outcome in outcomes] == ["cancelled"]


async def test_frames_after_the_end_are_dropped() -> None:
    outcomes: list[Outcome] = []
    job, client = make_job(settle=outcomes.append), Client()
    job.channel.attach(client)
    begun(job)
    job.push(b"data: 1\n\n")
    job.close("finished")
    job.push(b"data: 2\n\n")
    assert client.writes == [b"data: 1\n\n"]
    assert job.state == "done"

    never = make_job()
    never.cancel()
    never.push(b"data: 1\n\n")
    assert not never.committed
    assert never.channel.waiting_bytes == 0


async def test_the_body_is_forgotten_once_it_cannot_be_sent_again() -> None:
    committed, ended = make_job(), make_job()
    begun(committed)
    assert committed.request.fields
    committed.push(b"data: x\n\n")
    ended.cancel()
    assert not committed.request.fields
    assert not ended.request.fields


async def test_a_client_that_leaves_gets_its_end_at_once_whatever_waits_for_it() -> None:
    outcomes: list[Outcome] = []
    job, client = make_job(settle=outcomes.append), Client(slow=True)
    job.channel.attach(client)
    begun(job)
    job.push(b"data: 1\n\n")
    job.push(b"data: 2\n\n")
    job.cancel()
    assert client.ends == [None]
    assert job.channel.waiting_bytes == 0
    assert [outcome.ending for outcome in outcomes] == ["cancelled"]


async def test_a_client_that_leaves_with_the_last_bytes_of_a_finished_answer_gets_its_end_too() -> (
    None
):
    outcomes: list[Outcome] = []
    job, client = make_job(settle=outcomes.append), Client(slow=True)
    job.channel.attach(client)
    begun(job)
    job.push(b"data: 1\n\n")
    job.push(b"data: 2\n\n")
    job.close("finished")
    assert client.ends == []
    job.cancel()
    assert client.ends == [None]
    assert [outcome.ending for outcome in outcomes] == ["finished"]


async def test_a_settlement_that_fails_still_ends_the_job_for_everybody_else() -> None:
    def settle(_outcome: Outcome) -> None:
        raise OSError("the ledger is broken")

    ends: list[Job] = []
    job, client = make_job(settle=settle), Client()
    job.on_end = ends.append
    job.channel.attach(client)
    _, tap = begun(job)
    with pytest.raises(OSError, match="ledger"):
        job.cancel()
    job.close("failed")
    assert tap.calls == ["abort"]
    assert ends == [job]
    assert client.ends == [None]


async def test_a_settlement_may_look_at_a_job_that_has_ended() -> None:
    seen: list[tuple[bool, str]] = []

    def settle(outcome: Outcome) -> None:
        seen.append((job.ended, outcome.ending))
        job.close("failed")

    job = make_job(settle=settle)
    job.close("finished")
    assert seen == [(True, "finished")]


async def test_a_client_that_leaves_inside_a_write_ends_its_job_there() -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)

    class Leaving(Client):
        def write(self, frames: bytes) -> bool:
            job.cancel()
            return super().write(frames) if not self.ends else True

    client = Leaving()
    job.channel.attach(client)
    _, tap = begun(job)
    job.push(b"data: 1\n\n")
    job.push(b"data: 2\n\n")
    assert tap.calls == ["abort"]
    assert client.ends == [None]
    assert client.writes == []
    assert job.channel.waiting_bytes == 0
    assert [outcome.ending for outcome in outcomes] == ["cancelled"]


async def test_states_follow_a_job_through() -> None:
    queue = FairQueue(4, 1)
    job = make_job()
    states: list[str] = [job.state]
    queue.put(job)
    states.append(job.state)
    assert await take(queue) is job
    states.append(job.state)
    job.begin(DEPLOYMENT, translator_of(job), Tap())
    job.push(b"data: x\n\n")
    states.append(job.state)
    job.close("finished")
    states.append(job.state)
    assert states == ["new", "queued", "connecting", "streaming", "done"]


@pytest.mark.parametrize("sent", [False, True])
async def test_a_prompt_counts_as_timed_out_only_if_the_upstream_has_all_of_it(sent: bool) -> None:
    outcomes: list[Outcome] = []
    job = make_job(settle=outcomes.append)
    _, tap = begun(job, sent=sent)
    tap.connected_at = 1.0
    late = UpstreamTimeout("first_content", 1.0)
    job.note_failure(late)
    job.close("failed", late)
    assert (outcomes[0].reached_upstream, outcomes[0].timed_out_prompts) == (True, int(sent))


# Usage that is still to come


def finished(*, usage_wait_s: float = LONG) -> tuple[Job, Translator, Tap, list[Outcome]]:
    """Return a job whose only choice has finished, before its usage."""
    outcomes: list[Outcome] = []
    job, tap = make_job(settle=outcomes.append), Tap()
    translator = translator_of(job)
    job.pick_up()
    job.begin(DEPLOYMENT, translator, tap, usage_wait_s=usage_wait_s)
    for each in events_of(["Hello"], done=False):
        job.push(translator.feed(each))
    return job, translator, tap, outcomes


async def test_a_reader_that_paused_the_upstream_and_left_does_not_keep_it_paused() -> None:
    job, _, tap, _ = finished()
    tap.calls.clear()
    job.cancel()
    assert tap.calls == ["resume"]
    job.settle_owed()


@pytest.mark.parametrize("ending", [one for one in ENDINGS if one != "cancelled"])
async def test_any_later_ending_settles_what_waits_for_its_usage_once_and_as_cancelled(
    ending: Ending,
) -> None:
    job, _, tap, outcomes = finished()
    ends: list[Job] = []
    job.on_end = ends.append
    job.cancel()
    job.cancel()
    assert (job.ended, job.owes_usage, outcomes, ends) == (True, True, [], [])
    job.close(ending, Draining())
    job.close(ending, Draining())
    assert [(one.ending, one.error) for one in outcomes] == [("cancelled", None)]
    assert ends == [job]
    assert ("abort" in tap.calls) is (ending != "finished")
    assert not job.owes_usage


async def test_usage_that_was_known_before_does_not_end_the_wait_for_the_last_one() -> None:
    job, translator, _, outcomes = finished()
    early = event(chunk(choices=[], usage=USAGE | {"completion_tokens": 1}))
    job.push(translator.feed(early))
    job.cancel()
    job.note_usage()
    assert outcomes == []
    translator.feed(event(chunk(choices=[], usage=USAGE)))
    job.note_usage()
    (outcome,) = outcomes
    assert outcome.usage == Usage(11, 7, 18)


async def test_an_answer_that_ends_in_time_needs_no_wait() -> None:
    job, translator, tap, outcomes = finished()
    job.finish(translator.feed(event("[DONE]")))
    job.cancel()
    assert [outcome.ending for outcome in outcomes] == ["finished"]
    assert "abort" not in tap.calls


async def test_an_ending_other_than_leaving_waits_for_no_usage() -> None:
    for ending in ("cut", "timed_out", "drained", "failed"):
        job, _, tap, outcomes = finished()
        job.close(ending, GatewayError())
        assert [outcome.ending for outcome in outcomes] == [ending]
        assert "abort" in tap.calls


async def test_a_job_whose_usage_has_come_is_not_kept_in_memory_until_the_wait_ends() -> None:
    job, translator, _, outcomes = finished(usage_wait_s=LONG)
    job.cancel()
    translator.feed(event(chunk(choices=[], usage=USAGE)))
    job.note_usage()
    assert len(outcomes) == 1
    seen = weakref.ref(job)
    del job, translator
    gc.collect()
    assert seen() is None
