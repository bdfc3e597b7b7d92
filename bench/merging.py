"""What `merge` saves: 1,000 readers of one run that streams 200 tokens in a second, with and without it.

    python bench/merging.py [--readers 1000] [--rate 200] [--seconds 10]

Prints the CPU time of the proxy's process and the bytes that one reader got, for `merge: 50ms` and without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proxy.simulator import Engine
from proxy.simulator.script.model import Chunks, Step, Workflow, script

ROOT = Path(__file__).parent.parent
PORT = 18321
YAML = """
version: 1
server: {{port: {port}}}
hatchet: {{token: "${{HATCHET_CLIENT_TOKEN}}", tap: {{stream: "on"}}}}
streams:
  chat:
    rules:
      - events: step_stream
        {merge}
        event: token
        data: {{step: step, attempt: attempt, first_index: first_index, index: index, text: payload}}
"""


def ticks(pid: int) -> float:
    """Seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def read(path: str, seconds: float) -> int:
    """The bytes of a stream within `seconds`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    count = 0
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(1 << 16):
                count += len(data)
    except TimeoutError:
        pass
    finally:
        writer.close()
    return count


async def readers(path: str, count: int, seconds: float) -> None:
    """Read with `count` clients; prints the mean of their bytes."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count * 2 + 100,) * 2)
    got = await asyncio.gather(*(read(path, seconds) for _ in range(count)))
    print(sum(got) // count)


async def measure(merge: str, count: int, rate: float, seconds: float) -> tuple[float, int]:
    """CPU seconds of the proxy and bytes of a reader."""
    tokens = tuple(b" token" for _ in range(int(rate * (seconds + 10))))
    answer = Step("answer", chunks=Chunks(tokens, 1 / rate), timeout=3600.0, output={})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "streams.yaml"
        file.write_text(YAML.format(port=PORT, merge=merge))
        async with Engine(script(Workflow("chat", (answer,))), quirks={"flush_buffers": False}) as engine:
            proxy = await asyncio.create_subprocess_exec(
                str(ROOT / ".venv/bin/stream-proxy"), "serve", "--config", str(file),
                env={**os.environ, **engine.env}, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                await asyncio.sleep(3)  # it starts
                run_id = await engine.trigger("chat", {}, {"stream": "on"})
                load = await asyncio.create_subprocess_exec(
                    sys.executable, __file__, "--read", f"/streams/chat/{run_id}",
                    "--readers", str(count), "--seconds", str(seconds + 4), stdout=subprocess.PIPE,
                )  # fmt: skip
                await asyncio.sleep(4)  # they connect
                before, began = ticks(proxy.pid), time.monotonic()
                got, _ = await load.communicate()
                used = (ticks(proxy.pid) - before) / (time.monotonic() - began)
            finally:
                proxy.terminate()
                await proxy.wait()
    return used, int(got)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    if given.read:
        await readers(given.read, given.readers, given.seconds)
        return
    for merge in ("", "merge: 50ms"):
        used, got = await measure(merge, given.readers, given.rate, given.seconds)
        print(
            json.dumps({"merge": merge or None, "cpu": round(used, 3), "bytes per reader": got}), flush=True
        )


if __name__ == "__main__":
    asyncio.run(main())
