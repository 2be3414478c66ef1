// A consumer as sqs-consumer's own pages show it, with a handler that does nothing. Each line of the input, `MODE POLLERS
// MESSAGES URL`, is a queue to empty; the answer is `done` when the last message was deleted, and `ready` when the next queue
// may come.

import { Agent } from "node:http";
import { createInterface } from "node:readline";

import { SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

// Its own limit of connections, 50, would be one of the consumer.
const httpAgent = new Agent({ keepAlive: true, maxSockets: 1000 });
const sqs = new SQSClient({ useQueueUrlAsEndpoint: false, requestHandler: { httpAgent } });

const modes = {
    batch: { handleMessageBatch: async (messages) => messages },
    single: { handleMessage: async (message) => message },
};

function empty(mode, pollers, messages, queueUrl) {
    return new Promise((resolve) => {
        let deleted = 0;
        const consumers = Array.from({ length: pollers }, () =>
            Consumer.create({ ...modes[mode], queueUrl, sqs, batchSize: 10 }),
        );
        const stop = () => {
            for (const consumer of consumers) {
                consumer.stop({ abort: true });
            }
            resolve();
        };
        for (const consumer of consumers) {
            consumer.on("message_processed", () => ++deleted === messages && stop());
            // A request that was under way at the end is no error.
            consumer.on("error", (error) => deleted < messages && fail(error));
            consumer.on("processing_error", fail);
            consumer.start();
        }
    });
}

function fail(error) {
    console.error(error);
    process.exit(1);
}

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
    const [mode, pollers, messages, url] = line.split(" ");
    await empty(mode, Number(pollers), Number(messages), url);
    console.log("done");
    console.log("ready");
}
process.exit(0);
