"""A Snowflake stand-in for the demo and the tests: fakesnow behind the replies that Snowflake gives.

    python fakesnow_compat.py PORT [--with-parent]

fakesnow (https://github.com/tekumara/fakesnow, version 0.12.1) runs the SQL on DuckDB. Its replies leave
out fields that Snowflake always sends and that a strict client insists on; this wrapper adds them, and
answers the renewal of a session, which fakesnow does not know. It listens on 127.0.0.1 only, keeps
everything in memory, and believes any credentials: it is for trying things out and for nothing else.
With --with-parent it ends when its standard input closes, and so with the process that started it.
"""

import json
import os
import sys
import threading

import fakesnow.server
import uvicorn

SESSION_SECONDS = 3600
MASTER_SECONDS = 14400
RENEWAL = "/session/token-request"


def complete_login(data):
    data.setdefault("sessionId", 1)
    data.setdefault("masterToken", "stand-in")
    data.setdefault("validityInSeconds", SESSION_SECONDS)
    data.setdefault("masterValidityInSeconds", MASTER_SECONDS)
    session = data.setdefault("sessionInfo", {})
    session.setdefault("roleName", "STAND_IN")
    session.setdefault("warehouseName", "STAND_IN")


def complete_result(data):
    data.setdefault("parameters", [])
    data.setdefault("returned", data.get("total", 0))
    data.setdefault("finalRoleName", "STAND_IN")
    data.setdefault("version", 1)


def complete_refusal(reply):
    data = reply["data"] = reply.get("data") or {}
    data.setdefault("age", 0)
    data.setdefault("internalError", False)
    data.setdefault("queryId", "")
    data.setdefault("errorCode", reply.get("code") or "")
    data.setdefault("sqlState", "")


def complete(path, body):
    """The reply with what was missing; anything that is no Snowflake reply is left as it is."""
    try:
        reply = json.loads(body)
    except ValueError:
        return body
    if not isinstance(reply, dict) or "success" not in reply:
        return body
    reply.setdefault("code", None)
    reply.setdefault("message", None)
    if not reply["success"]:
        complete_refusal(reply)
    elif path.endswith("/login-request"):
        complete_login(reply["data"])
    elif path.endswith("/query-request") and "rowtype" in (reply.get("data") or {}):
        complete_result(reply["data"])
    return json.dumps(reply).encode()


def renewed(body):
    """A renewed session is the old one: the stand-in's sessions do not expire."""
    return json.dumps(
        {
            "success": True,
            "code": None,
            "message": None,
            "data": {
                "sessionToken": json.loads(body)["oldSessionToken"],
                "validityInSecondsST": SESSION_SECONDS,
                "masterToken": "stand-in",
                "validityInSecondsMT": MASTER_SECONDS,
                "sessionId": 1,
            },
        }
    ).encode()


async def read_all(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def answer(send, status, headers, body):
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    kept.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] != "http":
        return await fakesnow.server.app(scope, receive, send)
    path = scope["path"]
    if path == RENEWAL:
        body = renewed(await read_all(receive))
        return await answer(send, 200, [(b"content-type", b"application/json")], body)
    start, parts = {}, []

    async def collect(message):
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await fakesnow.server.app(scope, receive, collect)
    await answer(send, start["status"], start.get("headers", []), complete(path, b"".join(parts)))


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    if "--with-parent" in sys.argv[2:]:
        threading.Thread(target=end_with_parent, daemon=True).start()
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
