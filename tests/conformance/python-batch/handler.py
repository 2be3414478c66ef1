"""Does what each body of a batch says: ``reject``, ``retry``, or it is sent on."""

import sandhog
from sandhog import Failure, Message, Outgoing, Reject, Retry


@sandhog.batch_handler
def handle_batch(messages: list[Message]) -> list[Failure | None]:
    return [handle(message) for message in messages]


def handle(message: Message) -> Failure | None:
    if message.body == b"reject":
        return Reject("never")
    if message.body == b"retry":
        return Retry("later")
    sandhog.send("out", Outgoing(message.body))
    return None
