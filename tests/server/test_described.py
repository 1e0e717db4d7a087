"""Schemathesis over the whole description of the interfaces: whatever comes, the server answers, and does not break."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.server.conftest import Serve, Start

PATIENCE_S = 30


@pytest.fixture(scope="module")
def short(serve: Start) -> Serve:
    """A server whose answers are short."""
    return serve("--parallel", "2", "--max-tokens", "8")


@pytest.fixture
def described(short: Serve) -> Any:
    return schemathesis.openapi.from_url(f"{short.url}/openapi.json")


described_here = schemathesis.pytest.from_fixture("described")


@described_here.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_breaks_it(case: Any) -> None:
    status = case.call(timeout=PATIENCE_S).status_code
    assert status < 500 or status == 503, case.as_curl_command()


def test_everything_is_described(short: Serve) -> None:
    paths = httpx2.get(f"{short.url}/openapi.json").json()["paths"]
    expected = (
        "/v1/chat/completions /v1/responses /v1/completions /v1/models /v1/embeddings /v1/messages "
        "/v1/messages/count_tokens /api/chat /api/generate /api/tags /api/show /api/ps /api/version /api/pull /ask "
        "/api/v1/chat /v1/pictures /v1/tokenize /v1/tasks /health /ready /metrics"
    )
    assert not set(expected.split()) - set(paths)
