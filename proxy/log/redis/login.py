"""Opens links: connects and signs in. The errors explain in a sentence why that is not possible.

LogRefused: the configuration or Redis must be changed. LogAway: the cause may pass by itself.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from socket import gaierror
from typing import Final

from config.model.shared_log import LogAddress
from proxy.log.base import LogAway, LogRefused
from proxy.log.redis.keys import PREFIX
from proxy.log.redis.link import CONNECT_TIMEOUT, Link, Node, OnReply, Sender, ask
from proxy.log.redis.resp import ErrorReply, Reply, command

TLS_RECORDS: Final = (0x14, 0x15, 0x16, 0x17)  # the first byte of what a TLS server sends (RFC 8446, 5.1)
NO_TLS: Final = "%s does not speak TLS: write redis:// in place of rediss://"
REFUSED: Final[dict[str, str]] = {
    "WRONGPASS": "Redis refuses the user or the password of server.log",
    "NOAUTH": "Redis asks for a password, and server.log has none",
    "DENIED": "Redis is in protected mode and takes no clients of other machines: set a password there",
    "READONLY": "the Redis of server.log is a replica and takes no writes: name its master, or its sentinels",
}
"""Errors, by code, that last until somebody changes the configuration or Redis."""
AWAY: Final[dict[str, str]] = {
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "Redis has lost its master",
    "OOM": "the memory of Redis is full (maxmemory)",
    "MISCONF": "Redis stores nothing, because it cannot write its snapshot",
    "NOREPLICAS": "Redis stores nothing, because it has too few replicas (min-replicas-to-write)",
    "CLUSTERDOWN": "the cluster does not serve all of its slots now",
    "MOVED": "the cluster has moved its slots",
    "BUSY": "Redis runs a script that does not end",
}
"""Errors, by code, that may pass."""


class Login:
    """How servers of one address are connected to."""

    def __init__(self, address: LogAddress) -> None:
        self.address = address
        self.tls: ssl.SSLContext | None = ssl.create_default_context() if address.tls else None

    async def open(
        self, node: Node, *, closed: Callable[[], None] | None = None, received: OnReply | None = None
    ) -> Link:
        """A link that is signed in. Raises LogAway, LogRefused."""
        link = await self._connect(node, closed or _nothing, received)
        try:
            await self._sign_in(link)
        except LogAway as error:
            raise _why(link, node, self.tls is not None) or error from None
        except BaseException:
            link.close()
            raise
        return link

    async def _connect(self, node: Node, closed: Callable[[], None], received: OnReply | None) -> Link:
        try:
            return await Link.connect(node, tls=self.tls, closed=closed, received=received)
        except ssl.SSLError as error:
            raise refused_by_tls(error, node) from None
        except TimeoutError:
            if self.tls is not None and await _speaks_plainly(node):
                raise LogRefused(NO_TLS % node) from None
            raise LogAway(f"{node} did not answer within {CONNECT_TIMEOUT:g} s") from None
        except (gaierror, UnicodeError):  # a text that cannot be a name, like `..`, is a UnicodeError
            raise LogAway(f"the name {node.host} of server.log is not known") from None
        except ConnectionRefusedError:
            raise LogAway(f"nothing listens at {node}") from None
        except OSError as error:
            if self.tls is not None and isinstance(error, ConnectionError):
                raise LogAway(f"{node} closed the connection before TLS began; does it speak TLS?") from None
            raise LogAway(f"{node} cannot be reached ({error.strerror or type(error).__name__})") from None

    async def _sign_in(self, link: Link) -> None:
        address = self.address
        if address.password is not None:
            user = [address.user.encode()] if address.user else []
            reply = await link.call(b"AUTH", *user, address.password.encode())
            if isinstance(reply, ErrorReply):
                raise refused_password(reply, named=bool(user))
        await answer(link, command(b"PING"), "PING")
        if address.database:
            reply = await link.call(b"SELECT", b"%d" % address.database)
            if isinstance(reply, ErrorReply):
                raise _no_database(reply, address.database)


async def answer(sender: Sender, commands: bytes, what: str) -> Reply:
    """The reply to the command `what`. Raises LogAway, LogRefused where it is an error."""
    reply = await ask(sender, commands)
    if isinstance(reply, ErrorReply):
        raise refusal(reply, what)
    return reply


def refusal(reply: ErrorReply, what: str) -> LogAway | LogRefused:
    """The exception for an error with which Redis answers the command `what`."""
    if reply.code == "NOPERM":
        return LogRefused(f"the user of server.log lacks the right {_right(reply)} (ACL SETUSER)")
    if reply.code in REFUSED:
        return LogRefused(REFUSED[reply.code])
    if reply.code in AWAY:
        return LogAway(AWAY[reply.code])
    if "unknown command" in reply.text:
        return LogRefused(f"the Redis of server.log does not know {what}: too old, or it was renamed")
    return LogAway(f"Redis answers {what} with an error ({reply.text[:80]})")


def _right(reply: ErrorReply) -> str:
    """The right that is missing, as ``ACL SETUSER`` has it: of a command, of keys or of channels."""
    command = re.search("'([^']+)'", reply.text)
    if command:
        return f"+{command[1].lower()}"
    return f"{'&' if 'channel' in reply.text else '~'}{PREFIX}*"


def refused_password(reply: ErrorReply, *, named: bool) -> LogAway | LogRefused:
    """The exception for an error in reply to AUTH; `named`: a user was given."""
    if "without any password" in reply.text:
        return LogRefused("Redis has no password, and server.log gives one: set requirepass, or remove it")
    if "wrong number of arguments" in reply.text and named:
        return LogRefused("Redis knows no users: it is older than 6.2, which server.log needs")
    if "invalid password" in reply.text:
        return LogRefused(REFUSED["WRONGPASS"])
    return refusal(reply, "AUTH")


def _no_database(reply: ErrorReply, database: int) -> LogAway | LogRefused:
    if reply.code == "NOPERM":
        return refusal(reply, "SELECT")
    if "cluster mode" in reply.text:
        return LogRefused(f"a Redis Cluster has database 0 alone, and server.log names {database}")
    return LogRefused(f"Redis has no database {database}, which server.log names")


def refused_by_tls(error: ssl.SSLError, node: Node) -> LogRefused:
    """The exception for a TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return LogRefused(
            f"the certificate of {node} is not trusted ({error.verify_message}): SSL_CERT_FILE names the "
            "file of an authority of your own"
        )
    if error.reason and "ALERT" in error.reason:
        return asks_for_certificate(error, node)
    return LogRefused(NO_TLS % node)


def asks_for_certificate(error: ssl.SSLError, node: Node) -> LogRefused:
    """The exception for a TLS alert of the server."""
    reason = (error.reason or "").lower().replace("_", " ")
    if "certificate" in reason or "handshake failure" in reason:
        return LogRefused(
            f"{node} asks for a client certificate, and server.log has none: set tls-auth-clients no"
        )
    return LogRefused(f"{node} refuses TLS ({reason})")


def _why(link: Link, node: Node, tls: bool) -> LogAway | LogRefused | None:
    """Why a link ended that was just opened; None where nothing shows it."""
    if isinstance(link.unasked, ErrorReply):
        return refusal(link.unasked, "a connection")
    if isinstance(link.error, ssl.SSLError):
        return asks_for_certificate(link.error, node)
    if link.foreign.startswith(b"HTTP/"):
        return LogRefused(f"{node} speaks HTTP and is no Redis")
    if link.foreign and link.foreign[0] in TLS_RECORDS and not tls:
        return LogRefused(f"{node} speaks TLS: write rediss:// in place of redis://")
    if link.foreign:
        return LogRefused(f"what listens at {node} is no Redis")
    if not link.open and isinstance(link.error, ConnectionError | None):
        question = "ask for a client certificate (tls-auth-clients)" if tls else "speak TLS"
        return LogAway(f"{node} closed the connection at once; does it {question}?")
    return None


async def _speaks_plainly(node: Node) -> bool:
    """Whether a server that did not begin TLS answers a ping without it (Redis waits for more)."""
    try:
        link = await Link.connect(node, tls=None, closed=_nothing)
        try:
            await link.call(b"PING")
        finally:
            link.close()
    except (LogAway, OSError):
        return False
    return True


def _nothing() -> None:
    """Do nothing when a link ends: the caller that waits for a reply gets the error."""
