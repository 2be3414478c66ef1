// Sends the body on: what the benchmarks want of a large engine is that it starts and answers.
import { send } from 'sandhog:worker/sender@0.1.0';

export const handler = {
    handle(message) {
        send('out', { body: message.body, attributes: [] });
    },
};
