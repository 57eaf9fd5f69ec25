"""The public door of an agent with nothing but a NATS client: answers a task with the record that `kaos task get` and `kaos ask` read."""
import base64, hashlib, json, re, time
from nats.js.errors import APIError

STANDS_ALREADY = 10071  # "wrong last sequence"

def sha256(text):
    return hashlib.sha256(text.encode()).digest()

def key_of(message, namespace, name):
    """The key of the task: the id that its sender gave, where it is a name, else its hash; without an id, of what caused it."""
    ack, headers = message.reply.split("."), message.headers
    delivery = "-".join(ack[5:8:2] if len(ack) == 9 else ack[7:10:2])  # stream sequence and time; domain and account may stand before
    cause = headers.get("Kaos-Cause") or headers.get("Kaos-Id") or delivery
    given = headers.get("Kaos-Key") or headers.get("Nats-Msg-Id")
    if given and re.fullmatch("[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", given):
        return given, cause
    hashed = base64.b32encode(sha256(f"{namespace}\n{name}\n{given or cause}")).decode().lower()[:26]
    return ("h" if given else "t") + hashed, cause

async def take_task(js, message, namespace, name, answer):
    key, cause = key_of(message, namespace, name)
    task, now = f"{name}_{key}", time.time_ns() // 10**6
    trace = re.match("00-([0-9a-f]{32})-", message.headers.get("traceparent", ""))
    print(f"working on {task}", flush=True)
    reply = await answer(message)
    record = {
        **({"state": "completed", "output": reply["value"]} if "value" in reply else {"state": "failed", "failure": reply["failure"]}),
        "task": task,
        "agent": name,
        "trace": trace[1] if trace else sha256(f"trace\n{namespace}\n{name}\n{cause}").hex()[:32],
        "startedAt": reply.get("work", {}).get("startedAt", now),
        "endedAt": reply.get("work", {}).get("endedAt", now),
        "usage": {"inputTokens": 0, "outputTokens": 0, "modelCalls": 0, "toolCalls": 0},
    }
    headers = {"Kaos-V": "1", "Kaos-Id": f"{task}.result", "Nats-Expected-Last-Subject-Sequence": "0"}
    try:
        await js.publish(f"kaos.{namespace}.result.{name}.{key}", json.dumps(record).encode(), headers=headers)
    except APIError as error:
        if error.err_code != STANDS_ALREADY:
            raise
