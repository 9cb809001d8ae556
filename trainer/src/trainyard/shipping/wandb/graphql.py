"""GraphQL of a W&B server, by HTTP; the errors say what to correct."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final

from trainyard.shipping.backend import Retry, Unusable

_TIMEOUT_S: Final = 10.0


class NoAnswer(Retry):
    """The server is away, which may be over in a moment."""


class GraphQl:
    """One server, with a key; each answer takes seconds at most."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.url = base_url
        credentials = base64.b64encode(f"api:{api_key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}

    def query(self, text: str, variables: dict[str, Any], *, place: str) -> dict[str, Any]:
        """The data of the answer. Raises NoAnswer, or Unusable where somebody has to correct something; `place` is what was asked about."""
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", data=body, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise _http_trouble(self.url, error) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise NoAnswer(
                f"W&B at {self.url} cannot be reached ({reason}): check WANDB_BASE_URL, or whether it is down"
            ) from error
        except ValueError as error:
            raise Unusable(f"{self.url} does not answer as W&B does: check WANDB_BASE_URL") from error
        errors = answer.get("errors") or []
        if not all(isinstance(each, dict) for each in errors):  # GraphQL of some other program
            raise Unusable(f"{self.url} does not answer as W&B does: check WANDB_BASE_URL")
        if messages := [each.get("message", "") for each in errors]:
            raise Unusable(
                f"W&B at {self.url} refuses {place}: {'; '.join(messages)}; check WANDB_PROJECT and WANDB_ENTITY"
            )
        data: dict[str, Any] = answer.get("data") or {}
        return data


def _http_trouble(url: str, error: urllib.error.HTTPError) -> Retry:
    if error.code in (401, 403):
        return Unusable(f"W&B at {url} refuses the key (HTTP {error.code}): WANDB_API_KEY must be a key of that server")
    if error.code in (404, 405):
        return Unusable(f"{url} is no W&B server (HTTP {error.code}): check WANDB_BASE_URL")
    return NoAnswer(f"W&B at {url} answers HTTP {error.code}: {error.read(200).decode(errors='replace')}")
