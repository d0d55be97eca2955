"""How long to wait before the next attempt to reach the server.

Owns the arithmetic only: no clock, no sleeping. The reconnect loop of `session` calls it. It must never
return a delay that synchronises many clients, because three thousand of them may lose one relay at once.
"""

import random
from collections.abc import Callable

FIRST = 0.25
"""Upper bound in seconds of the first delay: a relay that restarts is back at once for most clients."""
CAP = 15.0
"""Upper bound in seconds of every delay that the server did not ask for."""
RETRY_AFTER_CAP = 300.0
"""A server that asks for more than this is asked again anyway."""
SPREAD = 1.0
"""Seconds over which those come back who were told the same Retry-After."""
HEALTHY = 10.0
"""Seconds a tunnel must have lived for the next loss to count as a first one."""


class Backoff:
    """Full jitter: each delay is drawn evenly from zero to a bound that doubles until `CAP`.

    `random_unit` returns an even draw from [0, 1). The method is the "full jitter" of
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    __slots__ = ("_attempts", "_random")

    def __init__(self, random_unit: Callable[[], float] = random.random) -> None:
        self._random = random_unit
        self._attempts = 0

    def delay(self, retry_after: float | None = None) -> float:
        """Seconds to wait now; counts as one more attempt, unless the server says how long.

        `retry_after` is what the server asked for, in seconds (RFC 9110 section 10.2.3): never sooner than
        that, and spread over a tenth or a second more, since it comes in whole seconds and all who were told
        the same are not to come back together. How often it was tried does not count then: a server that
        gives each client its turn knows better.
        """
        if retry_after is not None and retry_after > 0:
            asked = min(retry_after, RETRY_AFTER_CAP)
            return asked + self._random() * max(asked / 10, SPREAD)
        bound = min(CAP, FIRST * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        return self._random() * bound

    def ended(self, lived: float) -> None:
        """Take note that a tunnel stood for `lived` seconds; one that stood long enough starts afresh."""
        if lived >= HEALTHY:
            self._attempts = 0
