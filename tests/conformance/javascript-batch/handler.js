// Does what each body of a batch says: `reject`, `retry`, or it is sent on.

import { Reject, Retry, send } from "sandhog";

function handle(message) {
    switch (message.text()) {
        case "reject":
            return new Reject("never");
        case "retry":
            return new Retry("later");
        default:
            send("out", { body: message.body });
    }
}

export default {
    handleBatch(messages) {
        return messages.map(handle);
    },
};
