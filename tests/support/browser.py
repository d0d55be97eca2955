"""A browser for the login pages: keeps cookies, reads forms, follows redirects; nothing more."""

from __future__ import annotations

import re
from html import unescape
from typing import Self

import httpx

from tests.support.deadlines import DEADLINE


class Browser:
    """One browser, at one auth service."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(
            base_url=url, follow_redirects=True, timeout=DEADLINE, trust_env=False, headers={"Origin": url}
        )
        self.page = ""
        self.status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def open(self, path: str) -> str:
        """Open a page."""
        return self._take(self.client.get(path))

    def send(self, path: str, **fields: str) -> str:
        """Send the form of the present page, its hidden fields included."""
        return self._take(self.client.post(path, data=self.hidden() | fields))

    def hidden(self) -> dict[str, str]:
        """Give the hidden fields of the present page."""
        # The last form wins: where there are two, both have the same token.
        found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', self.page)
        return {name: unescape(value) for name, value in found}

    def log_in(self, name: str, password: str, user_code: str = "") -> str:
        """Log in; gives the page to which that leads."""
        self.open(f"/login?user_code={user_code}")
        return self.send("/login", name=name, password=password)

    def approve(self, user_code: str, decision: str = "approve") -> str:
        """Approve or deny a device, once logged in."""
        self.open(f"/device?user_code={user_code}")
        return self.send("/device", user_code=user_code, decision=decision)

    def _take(self, response: httpx.Response) -> str:
        self.page, self.status = response.text, response.status_code
        return self.page
