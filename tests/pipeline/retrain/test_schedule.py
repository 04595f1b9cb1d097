"""Intervals, missed schedules, and a server that becomes unreachable."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from pipeline.retrain import schedule
from pipeline.retrain.records import is_superseded
from pipeline.retrain.schedule import next_times, parse_interval, time_zone
from stages.types import UserError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1d", 86400), (" 2 m ", 120)]
)
def test_intervals(text: str, seconds: float) -> None:
    assert parse_interval(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "m", "0m", "-5m", "5 weeks", "1e3s"])
def test_invalid_intervals(text: str) -> None:
    with pytest.raises(UserError, match="write a number and s, m, h or d"):
        parse_interval(text)


def run(hour: float, result: str = "nothing new") -> dict[str, str]:
    return {"id": (NOON + timedelta(hours=hour - 12)).strftime("%Y%m%dT%H%M%SZ"), "result": result}


def test_one_run_replaces_all_missed_runs() -> None:
    """The machine sleeps from 8 to 12, with a run every hour: the run of 9 runs at 12, those of 10 and 11 do not."""
    history = [run(8)]
    assert not is_superseded(history, NOON - timedelta(hours=3), NOON)
    history.append(run(12))
    after = NOON + timedelta(seconds=30)
    assert is_superseded(history, NOON - timedelta(hours=2), after)
    assert is_superseded(history, NOON - timedelta(hours=1), after)


def test_a_run_in_time_is_never_skipped() -> None:
    assert not is_superseded([run(11), run(11.5)], NOON, NOON + timedelta(seconds=3))


def test_runs_of_the_future_do_not_count_after_the_clock_went_back() -> None:
    assert not is_superseded([run(13), run(14)], NOON, NOON + timedelta(seconds=3))


def test_failed_runs_replace_no_missed_run() -> None:
    assert not is_superseded([run(11, "failed"), run(11, "rolled back")], NOON - timedelta(hours=2), NOON)


def test_a_second_run_of_one_second_is_read() -> None:
    assert is_superseded([{"id": "20260101T110000Z-2", "result": "held"}], NOON - timedelta(hours=2), NOON)


def test_serving_ends_when_the_server_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(schedule, "PATIENCE_S", 0.5)
    signalled = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: signalled.set())
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with schedule._watch_server(f"http://127.0.0.1:{server.server_port}/api") as unreachable:
            assert not unreachable.wait(1.5)  # three times the patience, and the server answers
            server.shutdown()
            server.server_close()
            assert unreachable.wait(60)
        assert signalled.wait(60)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("zone", "utc"),
    [("Asia/Tokyo", "2026-06-30T17:00"), ("Europe/Berlin", "2026-07-01T00:00"), ("UTC", "2026-07-01T02:00")],
)
def test_two_at_night_is_two_at_night_where_the_line_is(zone: str, utc: str) -> None:
    """`0 2 * * *`, after the 30th of June at noon UTC."""
    (first,) = next_times("0 2 * * *", time_zone(zone), datetime(2026, 6, 30, 12, tzinfo=UTC))
    assert (first.hour, str(first.tzinfo)) == (2, zone)
    assert first.astimezone(UTC) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_a_time_that_does_not_exist_and_one_that_exists_twice() -> None:
    """In Berlin the clock goes from 2 to 3 on 29 March, and from 3 back to 2 on 25 October 2026: one run each night."""
    berlin = time_zone("Europe/Berlin")
    spring = next_times("30 2 * * *", berlin, datetime(2026, 3, 28, 12, tzinfo=UTC), 3)
    assert [f"{time:%d %H:%M}" for time in spring] == ["29 01:30", "30 02:30", "31 02:30"]  # not lost
    autumn = next_times("30 2 * * *", berlin, datetime(2026, 10, 24, 12, tzinfo=UTC), 3)
    assert [f"{time:%d %H:%M}" for time in autumn] == ["25 02:30", "26 02:30", "27 02:30"]
    nine = next_times("0 9 * * *", berlin, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert [time.astimezone(UTC).hour for time in nine] == [7, 7]  # summer time: an hour earlier in UTC than before


def test_the_zone_of_the_machine_and_wrong_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert time_zone(None).key == "Asia/Tokyo"
    with pytest.raises(UserError, match=r"--timezone 'Europe/Berln' .*Europe/Berlin"):
        time_zone("Europe/Berln")
    for name in ("CET+1", "../etc/passwd", "", "/etc/localtime"):
        with pytest.raises(UserError, match="--timezone"):
            time_zone(name)
    with pytest.raises(UserError, match="is not a cron line"):
        next_times("every day", time_zone("UTC"), NOON)


def test_prefect_gets_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.retrain import flow

    served: list[dict[str, Any]] = []
    monkeypatch.setattr(schedule, "_delete_missed", lambda name: None)
    monkeypatch.setattr(type(flow.retrain_flow), "serve", lambda self, **options: served.append(options))
    schedule._serve(None, "0 2 * * *", time_zone("Asia/Tokyo"))
    schedule._serve(timedelta(hours=1), None, None)
    assert (served[0]["schedule"].cron, served[0]["schedule"].timezone) == ("0 2 * * *", "Asia/Tokyo")
    assert served[1]["schedule"].interval == timedelta(hours=1)
