"""Reaches out as the first word of the body says, so that one set of tests serves every language."""

import os
import random
import secrets
import time

import sandhog
from sandhog import Message, Retry, config, http, keyvalue


@sandhog.handler
def handle(message: Message) -> None:
    word, *rest = message.text().split(" ")
    answer = COMMANDS[word](*rest)
    if answer is not None:
        sandhog.send("out", str(answer))


def request(method: str, url: str, **options: object) -> str:
    try:
        response = http.request(method, url, **options)
        text = response.text()
    except http.NotGranted:
        return "not-granted"
    except http.Timeout:
        return "timeout"
    except http.Unreachable:
        return "connection"
    return f"{response.status} {len(text) if len(text) > 20 else text}"


def many(url: str, times: str) -> int:
    return sum(http.request("GET", url).ok for _ in range(int(times)))


def set(key: str, value: str) -> None:
    keyvalue.open().set(key, value)


def lose(key: str, value: str) -> None:
    keyvalue.open().set(key, value)
    raise Retry("lost")


def swap(key: str, expected: str, value: str) -> str:
    swapped = keyvalue.open().compare_and_set(key, None if expected == "-" else expected, value)
    return str(swapped).lower()


def file(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return "nothing"


def crash() -> None:
    raise TypeError("told to crash")


COMMANDS = {
    "get": lambda url: request("GET", url),
    "late": lambda url, milliseconds: request("GET", url, timeout=int(milliseconds) / 1000),
    "post": lambda url, length: request("POST", url, body=b"x" * int(length)),
    "many": many,
    "set": set,
    "lose": lose,
    "read": lambda key: keyvalue.open().get_text(key) or "nothing",
    "count": lambda key: keyvalue.open().increment(key),
    "swap": swap,
    "keys": lambda prefix: " ".join(keyvalue.open().keys(prefix)),
    "config": lambda name: config.get(name) or "nothing",
    "env": lambda name: os.environ.get(name, "nothing"),
    "clock": lambda: int(time.time() * 1000),
    "random": lambda: f"{random.random()} {secrets.token_hex(8)}",
    "file": file,
    "crash": crash,
}
