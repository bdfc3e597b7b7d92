"""``stream-proxy serve --workers N``: several processes on one address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli.commands.serve import Serving, cannot_listen, serve
from proxy.observability.log_writer import open_event_log
from proxy.server.assembly import Worker
from proxy.server.http.sockets import bound
from proxy.server.listener import run
from proxy.server.workers.mesh import Inboxes, Mesh
from proxy.server.workers.placement import FIRST
from proxy.server.workers.supervisor import Supervisor

if TYPE_CHECKING:
    import socket


def serve_together(serving: Serving, workers: int) -> int:
    """Serve with so many processes until a signal ends them; the exit status."""
    admin_port = serving.config.server.admin_port
    try:
        first = bound(serving.host, serving.port, shares=True)
        port = first.getsockname()[1]
        sockets = [first, *(bound(serving.host, port, shares=True) for _ in range(workers - 1))]
        admin = None if admin_port is None else bound(serving.host, admin_port)
    except OSError as error:
        return cannot_listen(serving, error)
    inboxes = Inboxes.make(workers)

    def work(index: int, parent: int) -> int:
        """One worker, after the fork."""
        own_admin: socket.socket | None = admin if index == FIRST else None
        worker = Worker(Mesh(index, inboxes), parent)
        status: int = run(lambda: serve(serving, sockets[index], own_admin, worker))
        return status

    def died(index: int, status: int) -> None:
        log = open_event_log()  # opened here: a worker that is forked must not share a buffer with the parent
        log.worker_died(index, status)
        log.flush()

    return Supervisor(workers, work, died).run()
