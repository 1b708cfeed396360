"""Which answers clients read from the decode worker, and with what."""

from __future__ import annotations

from dataclasses import replace
from secrets import token_bytes

from router.ledger import Life
from router.peer import Peer
from router.planning import Chosen

GRANT_BYTES = 32


def choose(one: Life, chosen: Chosen, decode: Peer | None) -> None:
    """Sets what goes with the legs of a plan; each attempt has a grant of its own.

    Once tokens have come, they come through the router: the client knows of no other way.
    """
    serves = decode is not None and decode.info.direct_address != ""
    direct = one.request.direct and serves and one.streamed_at is None
    grant = token_bytes(GRANT_BYTES) if direct else b""
    one.route = replace(chosen.route, resumed=one.sent, grant=grant)
    # Of a direct answer the router has no tokens to go on after; its client does.
    one.state = replace(one.state, resumable=one.request.resumable and not direct)
