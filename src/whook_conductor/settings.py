"""The settings of a conductor: addresses, limits and deadlines, each with its unit and its reason.

Loaded by the composition root, read by every module of this package. It holds one secret, the cluster key,
which is masked wherever settings are shown.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator

from whook.chassis.listen import check_address
from whook.chassis.settings import Settings

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ConductorSettings(Settings):
    """What a conductor can be told. Durations are in seconds, sizes in bytes."""

    section: ClassVar[str] = "conductor"

    listen: str = Field("127.0.0.1:8080", description="Address of the ingress, where senders come in.")
    api: str = Field("127.0.0.1:8081", description="Address of the API, where the CLI asks for tunnels.")

    base_domain: str = Field("localhost", description="Projects are reached as <project>.<base_domain>.")
    public_scheme: Literal["http", "https"] = Field(
        "http", description="How senders reach the ingress: https when something in front of it ends TLS."
    )
    public_port: int | None = Field(
        None, ge=1, le=65535, description="Port in public URLs; by default the one the ingress listens on."
    )
    auth_url: str | None = Field(
        None, description="Where people log in, such as https://auth.example.com: told to clients."
    )
    path_prefix: str | None = Field(
        None,
        description="When set, such as /p/, <path_prefix><project>/rest on any other host reaches /rest of "
        "the project: for those without wildcard DNS.",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Load balancers: their X-Forwarded-* fields are believed, and their PROXY headers."
    )
    proxy_protocol: Literal["off", "v1", "v2", "both"] = Field(
        "off",
        description="Version of the PROXY protocol with which each connection to the ingress begins. Any "
        "other connection is closed, and so is one that is not from trusted_proxies.",
    )

    max_head: int = Field(65_536, ge=1_024, le=196_608, description="Longest request head; 431 beyond it.")
    max_body: int = Field(104_857_600, ge=0, description="Longest request body; 413 beyond it.")
    max_connections: int = Field(10_000, ge=1, description="Connections of senders; 503 beyond it.")
    max_connections_per_address: int | None = Field(
        256, ge=0, description="Connections of one address; 503 beyond it. 0: any number."
    )
    tunnels_per_second: float = Field(
        500.0, ge=1, description="Requests for a tunnel in a second; 503 with a Retry-After beyond it."
    )
    max_tunnel_requests: int = Field(256, ge=1, description="The same at once.")
    max_exchanges: int = Field(10_000, ge=1, description="Requests under way on one relay; 503 beyond it.")

    header_timeout: float = Field(
        10.0, gt=0, description="From the first byte of a request's head to its last; 408 beyond it."
    )
    idle_timeout: float = Field(
        75.0, gt=0, description="A kept-alive connection on which nothing begins is closed without a word."
    )
    request_deadline: float = Field(
        30.0,
        gt=0,
        description="From the last progress of a request's body to the head of its response; 504 beyond it.",
    )
    write_timeout: float = Field(
        60.0, gt=0, description="A sender that takes nothing of its response for so long is cut off."
    )
    linger_timeout: float = Field(
        5.0,
        gt=0,
        description="How long the rest of a request is waited for after its response, so that the sender "
        "reads the response instead of a reset (RFC 9112 section 9.6).",
    )
    half_closed_timeout: float = Field(
        60.0,
        gt=0,
        description="A streamed response silent for so long ends, once its sender has closed its side.",
    )

    project_ttl: float = Field(60.0, gt=0, description="How long a project, once found, is taken to exist.")
    unknown_project_ttl: float = Field(
        10.0, gt=0, description="How long a name, once not found, is taken not to exist."
    )
    max_unknown_projects: int = Field(
        10_000, ge=1, description="Names remembered as unknown: strangers choose them."
    )

    max_buffered_body: int = Field(
        33_554_432,
        ge=0,
        description="Longest request body that is stored when it cannot be delivered; 502, 503 or 504 "
        "beyond it.",
    )
    max_kept_bodies: int = Field(
        268_435_456,
        ge=0,
        description="Bytes of bodies kept in memory while they are streamed, so that they can still be "
        "stored, over all connections and beyond 256 KiB of each.",
    )
    max_buffered_count: int = Field(
        1_000_000, ge=1, description="Webhooks of all projects that may wait in the queue; 503 beyond it."
    )
    max_buffered_bytes: int = Field(
        10_737_418_240, ge=1, description="Bytes of all projects that may wait in the queue; 503 beyond it."
    )
    queue_timeout: float = Field(
        10.0, gt=0, description="How long a webhook waits until the queue has stored it; 503 beyond it."
    )
    delivery_memory: int = Field(
        67_108_864,
        ge=1_048_576,
        description="Bytes of stored webhooks held in memory for their delivery, over all projects.",
    )
    history: bool = Field(True, description="Whether webhooks and their deliveries are recorded.")
    history_max_body: int = Field(
        1_048_576,
        ge=0,
        description="Longest request body that the history keeps of a webhook that was answered at once; one "
        "with a longer body cannot be replayed.",
    )
    history_keep: int = Field(2_592_000, ge=1, description="How long events stay in the history.")
    history_bytes: int = Field(
        10_737_418_240,
        ge=0,
        description="How much the history may take; the oldest events go first, but none that waits or died.",
    )
    dead_letter_keep: int = Field(
        7_776_000, ge=1, description="How long events stay whose deliveries were given up."
    )

    drain_delay: float = Field(
        5.0,
        ge=0,
        description="How long a draining daemon is unready but goes on taking requests: the load balancer "
        "notices meanwhile.",
    )

    cluster_key: SecretStr = Field(
        SecretStr(""),
        description="Shared by conductors and relays, which prove to one another that they have it.",
    )
    trunk_connect_timeout: float = Field(
        5.0, gt=0, description="Longest time for a connection to a relay and the proof of the cluster key."
    )
    trunk_retry_cap: float = Field(
        1.0, gt=0, description="Longest pause between two attempts to reach a relay."
    )
    trunk_wait: float = Field(
        5.0,
        gt=0,
        description="How long a request whose relay cannot be reached waits for it, or for the client to "
        "come back at another one; 503 beyond it.",
    )
    relay_refresh: float = Field(
        5.0, gt=0, description="How often the relays and their load are read, beside what the bus says."
    )

    @field_validator("listen", "api")
    @classmethod
    def _check_address(cls, value: str) -> str:
        check_address(value)
        return value

    @field_validator("base_domain")
    @classmethod
    def _check_domain(cls, value: str) -> str:
        domain = value.strip(".").lower()
        if not domain or not domain.isascii() or any(c in domain for c in ":/ "):
            raise ValueError("give a bare host name, such as hooks.example.com")
        return domain

    @field_validator("path_prefix")
    @classmethod
    def _check_prefix(cls, value: str | None) -> str | None:
        if value and not (value.startswith("/") and value.endswith("/") and value.isascii()):
            raise ValueError("it must begin and end with a slash, such as /p/")
        return value or None

    @model_validator(mode="after")
    def _check_timeouts(self) -> Self:
        if self.header_timeout > self.idle_timeout:
            raise ValueError("header_timeout must not be longer than idle_timeout")
        if self.proxy_protocol != "off" and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: nobody else's headers are believed")
        return self

    def public_url(self, project: str, ingress_port: int) -> str:
        """Return the address under which senders reach `project`, without a slash at its end.

        `ingress_port` is the port the ingress really listens on; it counts when `public_port` is not set.
        """
        port = self.public_port or ingress_port
        suffix = "" if port == _DEFAULT_PORTS[self.public_scheme] else f":{port}"
        if self.path_prefix is not None:
            return f"{self.public_scheme}://{self.base_domain}{suffix}{self.path_prefix}{project}"
        return f"{self.public_scheme}://{project}.{self.base_domain}{suffix}"
