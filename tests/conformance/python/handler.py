"""Does what the first word of the body says, so that one set of tests serves every language."""

import time
from decimal import Decimal

import sandhog
from sandhog import Message, Outgoing, Reject, Retry, RetryAfter


@sandhog.handler
def handle(message: Message) -> None:
    try:
        word, _, rest = message.text().partition(" ")
    except Reject:
        word, rest = "", ""
    COMMANDS.get(word, measure)(message, rest)


def ok(message: Message, rest: str) -> None:
    pass


def retry(message: Message, rest: str) -> None:
    raise Retry(rest)


def retry_after(message: Message, rest: str) -> None:
    seconds, _, why = rest.partition(" ")
    raise RetryAfter(why, int(seconds))


def reject(message: Message, rest: str) -> None:
    raise Reject(rest)


def crash(message: Message, rest: str) -> None:
    raise RuntimeError("told to crash")


def wait(message: Message, rest: str) -> None:
    time.sleep(int(rest) / 1000)


def log(message: Message, rest: str) -> None:
    sandhog.log.info(rest)


def echo(message: Message, rest: str) -> None:
    sandhog.send("out", message.body, attributes=message.attributes, group_id=message.group_id)


def send_all(message: Message, rest: str) -> None:
    attributes = {"t": "täxt", "n": Decimal("-12.50"), "b": b"\x00\xff"}
    sandhog.send_many(
        "out",
        [
            Outgoing("one", attributes=attributes),
            Outgoing("two", delay=1, priority=9),
            Outgoing("three", group_id="g", deduplication_id="d"),
        ],
    )


def facts(message: Message, rest: str) -> None:
    facts = {
        "id": message.id,
        "queue": message.queue,
        "receive-count": message.receive_count,
        "group": message.group_id,
        "length": len(message.body),
    }
    sandhog.send("out", json=facts)


def denied(message: Message, rest: str) -> None:
    try:
        sandhog.send("elsewhere", message.body)
    except sandhog.SendError as error:
        raise Reject(error.kind) from None


def measure(message: Message, rest: str) -> None:
    sandhog.send("out", str(len(message.body)))


COMMANDS = {
    "ok": ok,
    "retry": retry,
    "retry-after": retry_after,
    "reject": reject,
    "crash": crash,
    "wait": wait,
    "log": log,
    "echo": echo,
    "send-all": send_all,
    "facts": facts,
    "denied": denied,
}
