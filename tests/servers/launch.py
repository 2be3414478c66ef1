"""Runs an SQS server on a free port of 127.0.0.1: `python launch.py localstack|ministack`.

The first line that it prints is `listening on ADDRESS`. It ends when its standard input ends, so that no server outlives
the test process that holds the other end, however that one ended.
"""

import os
import socket
import sys
import threading


def end_with_standard_input():
    while os.read(0, 4096):
        pass
    os._exit(0)


def localstack(listener):
    os.environ.update(
        SERVICES="sqs",
        GATEWAY_LISTEN="%s:%d" % listener.getsockname(),
        # URLs of queues name the address that the client used.
        SQS_ENDPOINT_STRATEGY="dynamic",
        # What SQS does, and is off by default here.
        SQS_DELAY_PURGE_RETRY="1",
        SQS_ENABLE_MESSAGE_RETENTION_PERIOD="1",
        EAGER_SERVICE_LOADING="1",
        LS_LOG="warning",
        # Nothing is looked up or reported on the network.
        DISABLE_EVENTS="1",
        DNS_ADDRESS="0",
        SKIP_SSL_CERT_DOWNLOAD="1",
        SQS_DISABLE_CLOUDWATCH_METRICS="1",
    )
    from twisted.internet import endpoints

    # Of GATEWAY_LISTEN it takes the port only, and would listen on every interface.
    endpoints.TCP4ServerEndpoint = lambda reactor, port: endpoints.AdoptedStreamServerEndpoint(
        reactor, listener.fileno(), socket.AF_INET
    )

    from localstack.runtime.main import main

    main()


def ministack(listener):
    os.environ.update(SERVICES="sqs", GATEWAY_PORT=str(listener.getsockname()[1]), LOG_LEVEL="WARNING")
    import asyncio

    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    asyncio.run(serve(app, config))


threading.Thread(target=end_with_standard_input, daemon=True).start()
# The socket is bound here, so that nobody else takes the port while the server starts.
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
listener.setblocking(False)
print("listening on %s:%d" % listener.getsockname(), flush=True)
# Whatever is printed later belongs into the log.
os.dup2(2, 1)
{"localstack": localstack, "ministack": ministack}[sys.argv[1]](listener)
