"""An agent with nothing but a NATS client (nats-py 2.16). Its manifest says `external: true`; docs/external-agents.md explains the rest."""
import asyncio, json, os, time
import nats
from door import take_task

NAMESPACE, NAME = os.environ.get("KAOS_NAMESPACE", "default"), os.environ.get("KAOS_AGENT", "translator")
STREAM, SLOTS = f"kaos_{NAMESPACE}_agent_{NAME}_mail", 8

async def work(task):
    """Put your own here. After a crash it is called again for the same task."""
    await asyncio.sleep(float(os.environ.get("WORK_SECONDS", "0")))
    return f"Bonjour! ({task})"

def failed(code, message):
    return {"kind": "error", "failure": {"code": code, "message": message}}

async def answer(message):
    """The body of a reply. A failure is one too, or whoever asked would wait until its time is over."""
    started, version = time.time_ns() // 10**6, message.headers.get("Kaos-V") or "1"
    try:
        if int(version) > 1:
            return failed("unsupported_version", f"this worker reads version 1, the message has {version}")
        text = message.data.decode()
        body = json.loads(text) if text.lstrip().startswith("{") else {"input": text}
        if "$blob" in body:
            return failed("payload_too_large", "this worker reads no bodies over 64 KiB")
        reply = {"kind": "result", "value": await work(body["input"])}
    except Exception as error:
        reply = failed("agent_failed", repr(error))
    attempts, host = message.metadata.num_delivered, f"python-{os.getpid()}"
    return {**reply, "work": {"startedAt": started, "endedAt": time.time_ns() // 10**6, "attempts": attempts, "host": host}}

async def take_mail(js, message):
    """kaos.<namespace>.agent.<name>.mail.start.agent.<sender>.<task>. A signal, such as a cancel, wants no answer."""
    _, _, _, _, _, kind, *rest, sender, task = message.subject.split(".")
    if kind != "start":
        return
    print(f"working on {task}", flush=True)
    traced = {name: message.headers[name] for name in ("traceparent", "tracestate", "baggage") if name in message.headers}
    reply = json.dumps(await answer(message)).encode()
    subject = f"kaos.{NAMESPACE}.agent.{sender}.mail.reply.agent.{NAME}.{task}"
    await js.publish(subject, reply, headers={"Kaos-V": "1", "Kaos-Id": task, **traced})  # stored when this returns

async def stay(message):
    """Without a sign of life the broker hands the message to another worker after 4 s."""
    while True:
        await asyncio.sleep(1)
        await message.in_progress()

async def serve(js, consumer, take):
    mail = await js.pull_subscribe_bind(consumer, STREAM)
    while True:
        try:
            [message] = await mail.fetch(1, timeout=5)
        except nats.errors.TimeoutError:
            continue
        message.headers, alive = message.headers or {}, asyncio.create_task(stay(message))
        try:
            await take(js, message)
            await message.ack()  # last: a death before it is a redelivery, and sending the same again is harmless
        except Exception as error:
            print(f"{message.subject} comes again: {error!r}", flush=True)
        finally:
            alive.cancel()

async def main():
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)
    js, doors = connection.jetstream(), lambda js, message: take_task(js, message, NAMESPACE, NAME, answer)
    print("ready", flush=True)
    await asyncio.gather(*(serve(js, *each) for each in (("mail", take_mail), ("task", doors)) for _ in range(SLOTS)))

asyncio.run(main())
