import asyncio
import json
import sys

from bench.load_client import load, request_of

ANSWERS = [b"202 Accepted", b"202 Accepted", b"422 Unprocessable Content"]


def test_a_request_has_the_length_of_its_bytes() -> None:
    request = request_of("http://127.0.0.1:80/a/b", '{"é": 1}', {"X-One": "1"})
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /a/b HTTP/1.1"
    assert b"Content-Length: 9" in head
    assert b"X-One: 1" in head
    assert body == '{"é": 1}'.encode()


async def test_connections_are_kept_and_refusals_counted() -> None:
    connections, answered = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, answered
        connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            status = ANSWERS[answered % len(ANSWERS)]
            answered += 1
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")

    async def safely(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(safely, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = {
        "url": f"http://127.0.0.1:{port}/x",
        "body": "{}",
        "headers": {},
        "seconds": 0.2,
        "connections": 4,
    }
    seen = await load(asked)
    server.close()
    assert connections == 4
    assert seen["requests"] == answered > 4
    assert seen["refused"] == answered // 3
    assert seen["broken"] == 0
    assert 0 < seen["p50"] <= seen["p99"]


async def test_it_runs_as_a_program() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load_client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    url = "http://127.0.0.1:1/x"
    asked = {"url": url, "body": "", "headers": {}, "seconds": 0, "connections": 1}
    _, errors = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 1
    assert b"ConnectionRefusedError" in errors
