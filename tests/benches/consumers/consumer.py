"""A loop over boto3 as people write it: threads that each receive ten messages and delete them, and do nothing with them.

Each line of the input, `MODE THREADS MESSAGES URL`, is a queue to empty; the answer is `done` when the last message was deleted,
and `ready` when the next queue may come.
"""

import os
import sys
import threading

import boto3
from botocore.config import Config

# Its own limit of connections, 10, would be one of the threads.
sqs = boto3.client("sqs", config=Config(max_pool_connections=100))


def empty(threads, messages, url):
    deleted, lock, done = 0, threading.Lock(), threading.Event()

    def work():
        nonlocal deleted
        while not done.is_set():
            # A long poll of a second, so that the threads end soon after the queue is empty.
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            received = answer.get("Messages", [])
            if not received:
                continue
            entries = [
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]} for index, message in enumerate(received)
            ]
            answer = sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            if answer.get("Failed"):
                fail(answer["Failed"])
            with lock:
                deleted += len(received)
                if deleted == messages:
                    done.set()

    def guarded():
        try:
            work()
        except Exception as error:
            # A poll that is under way at the end finds the queue gone.
            if not done.is_set():
                fail(error)

    workers = [threading.Thread(target=guarded) for _ in range(threads)]
    for worker in workers:
        worker.start()
    done.wait()
    print("done", flush=True)
    for worker in workers:
        worker.join()


def fail(error):
    print(error, file=sys.stderr, flush=True)
    os._exit(1)


print("ready", flush=True)
for line in sys.stdin:
    _, threads, messages, url = line.split()
    empty(int(threads), int(messages), url)
    print("ready", flush=True)
