"""HTTP load from a process of its own that costs little: wrk where it is installed, else ours."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONNECTIONS: Final = 32
_SCRIPT: Final = """
wrk.method = "POST"
wrk.body = %s
%s
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\\n{"requests": %%d, "seconds": %%f, "refused": %%d, "broken": %%d',
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
    io.write(string.format(', "p50": %%f, "p99": %%f}\\n',
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What the generator saw: answers below 400 per second, times in milliseconds."""

    accepted: int
    seconds: float
    refused: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Accepted requests per second."""
        return self.accepted / self.seconds


def generator() -> str:
    """Return the name of the generator that is used on this machine."""
    return "wrk" if shutil.which("wrk") else "bench.load_client"


def post_for(
    url: str,
    body: Mapping[str, Any],
    seconds: float,
    *,
    headers: Mapping[str, str] | None = None,
    connections: int = CONNECTIONS,
) -> Load:
    """Post the body again and again on so many connections for so many seconds."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    content = json.dumps(dict(body), separators=(",", ":"))
    if generator() == "wrk":
        told = _wrk(url, content, sent, seconds, connections)
    else:
        told = _own(url, content, sent, seconds, connections)
    if told["broken"]:
        raise RuntimeError(f"{url}: {told['broken']} connections broke")
    accepted = told["requests"] - told["refused"]
    return Load(accepted, told["seconds"], told["refused"], told["p50"], told["p99"])


def _wrk(
    url: str, content: str, headers: Mapping[str, str], seconds: float, connections: int
) -> dict[str, Any]:
    lines = (f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items())
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(_SCRIPT % (_lua(content), "\n".join(lines)))
        # wrk counts in whole seconds.
        length = f"{max(1, round(seconds))}s"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{length}", "--timeout", "30s"]
        return _last_line([*command, "-s", str(script), url])


def _own(
    url: str, content: str, headers: Mapping[str, str], seconds: float, connections: int
) -> dict[str, Any]:
    request = {
        "url": url,
        "body": content,
        "headers": dict(headers),
        "seconds": seconds,
        "connections": connections,
    }
    command = [sys.executable, "-m", "bench.load_client"]
    return _last_line(command, json.dumps(request))


def _last_line(command: list[str], given: str | None = None) -> dict[str, Any]:
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr or done.stdout}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _lua(text: str) -> str:
    """Return the text as a literal of Lua, whose escapes for these are JSON's."""
    return json.dumps(text)
