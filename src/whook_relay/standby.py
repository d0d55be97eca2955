"""A relay that an operator has taken out of service: no new tunnels, and the clients go to other relays.

`Standby.run` and `follow_orders` are infrastructure tasks of `whook_relay.service`; `lease` says of the relay
that it is draining, `tunnels` refuses newcomers. Unlike the drain of the process it can be taken back, ends
nothing by force and has no deadline: a client that finds no other relay keeps its tunnel here.
"""

from __future__ import annotations

import time
from random import uniform
from typing import Final

import trio

from whook.backplane.ports import TOPIC_ORDERS, Bus, BusGap, RelayOrder, Unavailable, decode_order
from whook.chassis.logs import get_logger
from whook.wire import GoAwayCode
from whook_relay.switch import Switch

LEAVE_RATE: Final = 200.0
"""Clients asked to leave in a second, so that they do not reconnect all at once: 19,000 are gone in 95 s."""
MESSAGE: Final = "the relay was taken out of service by an operator"

_log = get_logger("whook.relay.standby")


class Standby:
    """Whether this relay is out of service."""

    def __init__(self, relay_id: str, *, started_at: float | None = None) -> None:
        """``started_at`` is when this process began, in Unix seconds: earlier orders were to another one."""
        self._relay_id = relay_id
        self._started_at = time.time() if started_at is None else started_at
        self._latest = 0.0
        self.active = False
        self.changed = trio.Event()
        """Set, and replaced, at every change."""

    def check(self) -> str | None:
        """Tell why the relay takes no tunnels; None if it does."""
        return MESSAGE if self.active else None

    def obey(self, order: RelayOrder, *, kept: bool = False) -> None:
        """Take an order; one for another relay, or from before the latest, changes nothing.

        One that was only kept also counts for nothing if it is from before this process began. One that comes
        at once is obeyed however the clocks differ.
        """
        if order.relay_id != self._relay_id or order.at < self._latest:
            return
        if kept and order.at < self._started_at:
            return
        self._latest = order.at
        if order.drain == self.active:
            return
        self.active = order.drain
        if order.drain:
            _log.info("taken out of service", by=order.by)
        else:
            _log.info("back in service", by=order.by)
        self.changed.set()
        self.changed = trio.Event()

    async def run(self, switch: Switch) -> None:
        """Send the clients away whenever the relay is taken out of service, for ever."""
        while True:
            changed = self.changed
            if self.active:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send_away, switch, name="send away")
                    await changed.wait()
                    nursery.cancel_scope.cancel(reason="the order was changed")
            else:
                await changed.wait()


async def _send_away(switch: Switch) -> None:
    """Ask every client to open its tunnel elsewhere; it keeps the old one until it has."""
    for tunnel in list(switch.tunnels.values()):
        if tunnel.id in switch.tunnels:
            switch.ask_to_leave(tunnel, GoAwayCode.DRAIN, MESSAGE)
            await trio.sleep(uniform(0, 2 / LEAVE_RATE))  # noqa: S311 - spreads load, keeps no secret


async def follow_orders(
    bus: Bus,
    standby: Standby,
    retry: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Obey what operators order, for ever; what was missed is read after a gap, again after `retry` seconds.

    Started once it listens.
    """
    async with bus.subscribe(TOPIC_ORDERS) as news:
        task_status.started()
        await _catch_up(bus, standby, retry)
        while True:
            try:
                async for _, message in news:
                    _take(standby, message)
            except BusGap:
                await _catch_up(bus, standby, retry)


def _take(standby: Standby, message: bytes) -> None:
    order = decode_order(message)
    if order is not None:
        standby.obey(order)


async def _catch_up(bus: Bus, standby: Standby, retry: float) -> None:
    while True:
        try:
            kept = await bus.kept(TOPIC_ORDERS)
        except Unavailable as error:
            _log.warning("orders not read after a gap in the bus", error=str(error))
            await trio.sleep(retry)
            continue
        orders = [order for order in map(decode_order, kept) if order is not None]
        for order in sorted(orders, key=lambda order: order.at):
            standby.obey(order, kept=True)
        return
