"""Who may operate the service: a token of the scope `admin`, whose user is an admin now.

Called by `service` for what conductors ask on an operator's behalf. The token alone is not enough: an account
may have been disabled, or be no admin any more, since it was made.
"""

from __future__ import annotations

from whook.backplane.ports import AuthDenied, AuthStore, Principal
from whook_auth.audit import AuditTrail


async def require_admin(
    store: AuthStore, trail: AuditTrail, principal: Principal, action: str, target: str
) -> None:
    """Return if the principal may; else it is audited as refused. Raises AuthDenied (forbidden)."""
    async with trail.watching(action, principal.user, target):
        if "admin" not in principal.scopes:
            raise AuthDenied("forbidden", "this takes a token of the scope admin")
        account = await store.account(user_id=principal.user_id)
        if account is None or not account.admin or account.disabled_at is not None:
            raise AuthDenied("forbidden", "this takes an admin: the token's user is none any more")
