"""Run by a Python that has labgrid: so many exporters of one resource each join a coordinator; prints the seconds it took.

`python labgrid_exporters.py HOST:PORT COUNT`. Bare streams of labgrid's own protocol in one event loop, which is less work than
as many exporter processes; a client that is subscribed to all resources says when the last one is there.
"""

# mypy: allow-untyped-defs, allow-untyped-calls
# labgrid's generated messages have no types here.
from __future__ import annotations

import asyncio
import sys
import time

import grpc
from labgrid.remote.generated import labgrid_coordinator_pb2 as pb  # type: ignore[import-not-found]
from labgrid.remote.generated import labgrid_coordinator_pb2_grpc as rpc

_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)  # a connection of its own for each, as processes would have


async def _exporter(address, number, done):
    async def messages():
        hello = pb.ExporterInMessage()
        hello.startup.version, hello.startup.name = "26.0", f"board-{number:03}"
        yield hello
        resource = pb.ExporterInMessage()
        path = resource.resource.path
        path.group_name, path.resource_name = "board", "serial"
        resource.resource.cls, resource.resource.avail = "NetworkSerialPort", True
        resource.resource.params["host"].string_value = f"10.0.0.{number % 250}"
        resource.resource.params["port"].int_value = 4000 + number
        yield resource
        await done.wait()

    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        async for _ in rpc.CoordinatorStub(channel).ExporterStream(messages()):
            pass


async def _client(address, count, ready, done):
    async def messages():
        hello = pb.ClientInMessage()
        hello.startup.version, hello.startup.name = "26.0", "benchmark/host"
        yield hello
        subscribe = pb.ClientInMessage()
        subscribe.subscribe.all_resources = True
        yield subscribe
        sync = pb.ClientInMessage()
        sync.sync.id = 1
        yield sync
        await done.wait()

    seen: set[str] = set()
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        async for answer in rpc.CoordinatorStub(channel).ClientStream(messages()):
            if answer.HasField("sync"):
                ready.set()
            seen.update(
                one.resource.path.exporter_name for one in answer.updates if one.WhichOneof("kind") == "resource"
            )
            if len(seen) >= count:
                return


async def main(address, count):
    """Return the seconds from the first exporter's start to the last one's arrival at the client."""
    ready, done = asyncio.Event(), asyncio.Event()
    client = asyncio.create_task(_client(address, count, ready, done))
    await ready.wait()
    start = time.perf_counter()
    exporters = [asyncio.create_task(_exporter(address, number, done)) for number in range(count)]
    await client
    seconds = time.perf_counter() - start
    done.set()
    for exporter in exporters:
        exporter.cancel()
    await asyncio.gather(*exporters, return_exceptions=True)
    return seconds


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(main(sys.argv[1], int(sys.argv[2])))}\n")
