"""What a relay holds, as its switch sees it: tunnels, trunks, and the circuits that join them.

Records without behaviour, changed by `whook_relay.switch` and read by whatever works on tunnels and trunks.
"""

from __future__ import annotations

from enum import Enum

from whook.link import Link


class State(Enum):
    """Where a tunnel stands."""

    ACTIVE = "active"
    LEAVING = "leaving"  #: told to go elsewhere, still serving
    RETIRED = "retired"  #: gets nothing new, closes when its last exchange has finished


class Circuit:
    """One exchange: a stream on a trunk joined to a stream on a tunnel, and copies for onlookers."""

    __slots__ = ("began", "ended", "trunk", "trunk_id", "tunnel", "tunnel_id", "watchers")

    def __init__(
        self, trunk: Trunk, trunk_id: int, tunnel: Tunnel, tunnel_id: int, began: float = 0.0
    ) -> None:
        self.began = began  #: monotonic time of its OPEN
        self.trunk = trunk
        self.trunk_id = trunk_id
        self.tunnel = tunnel
        self.tunnel_id = tunnel_id
        self.ended = 0
        self.watchers: list[tuple[Tunnel, int]] | None = None


class Trunk:
    """A conductor's link, as the switch sees it."""

    __slots__ = ("circuits", "last_id", "leaving", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.leaving = ""  #: why it was asked to take leave
        self.circuits: dict[int, Circuit] = {}
        self.last_id = 0


class Tunnel:
    """A client's link, as the switch sees it."""

    __slots__ = (
        "circuits",
        "claimed",
        "generation",
        "holder",
        "id",
        "instance",
        "issued_at",
        "last_id",
        "link",
        "project",
        "project_id",
        "renew_at",
        "state",
        "token_id",
        "user_id",
        "watch",
    )

    def __init__(
        self,
        link: Link,
        *,
        tunnel_id: str,
        project_id: str,
        project: str,
        user_id: str,
        token_id: str,
        instance: str,
        holder: str,
        issued_at: float,
        renew_at: float,
        watch: bool,
    ) -> None:
        self.link = link
        self.id = tunnel_id
        self.project_id = project_id
        self.project = project
        self.user_id = user_id
        self.token_id = token_id
        self.instance = instance
        self.holder = holder
        self.issued_at = issued_at  #: Unix seconds: when its token was minted
        self.renew_at = renew_at  #: Unix seconds: when its client should come with a new token
        self.watch = watch
        self.generation = 0  #: of its route; 0 until it has one, and for an onlooker
        self.claimed = False  #: its route may be in the directory
        self.state = State.ACTIVE
        self.last_id = 0
        self.circuits: dict[int, Circuit] = {}
