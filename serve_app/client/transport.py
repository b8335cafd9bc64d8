"""Sends one request until it is answered: retries, waiting times, and answers that are errors become our errors.

Every call of the service may be repeated safely, so what failed for want of a moment is repeated. Knows no endpoint.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from serve_app.errors import CrossmodalError, NotReady, Unavailable, error_of

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0


class Transport:
    """One service, asked by HTTP. Safe to use from several threads, as httpx's client is."""

    def __init__(self, http: httpx.Client, retries: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self._http = http
        self._retries = retries
        self._sleep = sleep

    @property
    def url(self) -> str:
        return str(self._http.base_url).rstrip("/")

    @property
    def retries(self) -> int:
        return self._retries

    def json(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        """The JSON object of the answer. Raises the CrossmodalError that the service names, or Unavailable."""
        try:
            payload = self.send(method, path, **options).json()
        except ValueError as error:
            raise self._not_ours("something that is not JSON") from error
        if not isinstance(payload, dict):
            raise self._not_ours("something that is not a JSON object")
        return payload

    def send(self, method: str, path: str, *, repeat: bool = True, **options: Any) -> httpx.Response:
        """The answer, of status 2xx. `repeat` False: one attempt only. Raises like `json`."""
        last_attempt = self._retries if repeat else 0
        for attempt in range(last_attempt + 1):
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if attempt == last_attempt:
                    raise Unavailable(f"no service answers at {self.url} ({_cause(error)})") from error
                self.pause(attempt)
                continue
            if response.is_success:
                return response
            error_answer = self._error(response)
            # A table of another model answers 503 too, and no waiting mends it.
            passing = response.status_code in RETRIED_STATUSES and isinstance(error_answer, Unavailable)
            if not passing or attempt == last_attempt:
                raise error_answer
            self.pause(attempt, response.headers.get("retry-after"))
        raise AssertionError("the last attempt returns or raises")

    def pause(self, attempt: int, retry_after: str | None = None) -> None:
        """Wait before the next attempt: as long as the service asks for, otherwise twice as long each time."""
        asked = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
        # Jitter, so that callers that were refused together do not come back together.
        own = FIRST_WAIT_S * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - no secret hangs on it
        self._sleep(min(own if asked is None else asked, LONGEST_WAIT_S))

    def _error(self, response: httpx.Response) -> CrossmodalError:
        try:
            envelope = response.json()["error"]
            error = error_of(str(envelope["code"]), str(envelope["message"]))
        except (ValueError, KeyError, TypeError):
            said = response.text.strip() if response.headers.get("content-type", "").startswith("text/plain") else ""
            return self._not_ours(f"status {response.status_code}" + (f" and {said[:200]!r}" if said else ""))
        if envelope.get("request_id"):
            error.add_note(f"request {envelope['request_id']}")
        return error

    def _not_ours(self, what: str) -> CrossmodalError:
        # Ray's proxy answers so while the application is not up yet, and so does any stranger on that port.
        return NotReady(f"{self.url} answers with {what}: no crossmodal service, or one that has not started yet")


def _cause(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
