"""What a visitor has had, and who that is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stairs_core.errors import InputError
from stairs_core.settings.limits import Limits
from stairs_core.web import visitors
from stairs_core.web.visitors import Visitors

ALLOWED = replace(Limits(), visitor_requests=3, visitor_seconds=100.0, run_seconds=60.0)


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def had(clock):
    return Visitors(ALLOWED, lambda: clock[0])


def test_requests_of_a_minute_are_counted_by_visitor(had, clock):
    for _ in range(3):
        had.admit("a")
        clock[0] += 10
    with pytest.raises(InputError, match="3 requests a minute from one address: try again in 30"):
        had.admit("a")
    had.admit("b")
    clock[0] += 30
    had.admit("a")
    with pytest.raises(InputError, match="in 10 seconds"):
        had.admit("a")


def test_seconds_of_an_hour_are_counted_by_visitor(had, clock):
    assert had.seconds("a") == 60, "the limit of a run"
    had.charge("a", 70)
    assert had.seconds("a") == 30, "what is left of the hour"
    assert had.seconds("b") == 60
    clock[0] += 600
    had.charge("a", 40)
    with pytest.raises(InputError, match="100 seconds of runs an hour.*again in 50 minutes"):
        had.seconds("a")
    clock[0] += 3000
    assert had.seconds("a") == 60


def test_without_limits_nothing_is_kept(clock):
    free = Visitors(replace(ALLOWED, visitor_requests=0, visitor_seconds=0.0), lambda: clock[0])
    for _ in range(100):
        free.admit("a")
        free.charge("a", 1e6)
    assert free.seconds("a") == 60
    assert not free._had


def test_visitors_of_whom_nothing_is_left_are_forgotten(had, clock):
    for i in range(3000):
        had.admit(str(i))
        clock[0] += 1
    assert len(had._had) < 1100


@pytest.mark.parametrize(
    ("forwarded", "who"),
    [
        ("", "10.0.0.9"),
        ("9.9.9.9", "9.9.9.9"),
        ("1.1.1.1, 9.9.9.9, 10.2.3.4", "9.9.9.9"),  # the first is made up, the last a proxy
        ("nonsense, 9.9.9.9", "9.9.9.9"),
        ("192.168.0.7", "192.168.0.7"),
        ("2a00:1450:4001:81b::200e", "2a00:1450:4001:81b::/64"),
    ],
)
def test_on_a_space_a_visitor_is_the_last_public_address(monkeypatch, forwarded, who):
    monkeypatch.setenv("SPACE_ID", "some/space")
    assert visitors.address("10.0.0.9", forwarded) == who
    monkeypatch.delenv("SPACE_ID")
    assert visitors.address("10.0.0.9", forwarded) == "10.0.0.9", "anybody can send a header"


def test_who_has_no_address_is_nobody():
    assert visitors.address("", "") == ""
    assert visitors.address("testclient", "") == "testclient"
