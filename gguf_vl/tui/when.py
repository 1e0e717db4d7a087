"""Moments of the past as a person says them."""

from __future__ import annotations

from datetime import date, datetime, timedelta


def group(moment: float, today: date) -> str:
    """The heading of a day: Today, Yesterday, a weekday of the last seven days, else a month. Seconds since 1970."""
    day = datetime.fromtimestamp(moment).date()
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return f"{day:%A}" if day > today - timedelta(days=7) else f"{day:%B %Y}"


def short(moment: float, today: date) -> str:
    """The time of a day in the last week, else the date; always six cells or fewer. Seconds since 1970."""
    then = datetime.fromtimestamp(moment)
    return f"{then:%H:%M}" if then.date() > today - timedelta(days=7) else f"{then.day} {then:%b}"


def full(moment: float) -> str:
    """Date and time. Seconds since 1970."""
    return f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M}"
