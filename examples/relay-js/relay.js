import { Reject, Retry, RetryAfter, config, keyvalue, log } from "sandhog";

const ANSWER_MILLISECONDS_MAX = 5_000;
const FORGOTTEN_AT_A_TIME_MAX = 500;
const counts = keyvalue.open();

/** Hands an event to the subscriber's webhook: once, and again for as long as the subscriber may still take it. */
export default async function relay(message) {
    const { id, type } = message.json();
    if (typeof id !== "string" || typeof type !== "string") {
        throw new Reject("an event has an id and a type");
    }
    const { thisMonth, lastMonth, before } = delivered();
    if (thisMonth.exists(id) || lastMonth.exists(id)) {
        log.info(`event ${id} was delivered before`);
        return;
    }
    const status = await post(message.body, id);
    if (!status.ok) {
        throw refused(status);
    }
    // All of it happens together with the deletion of the message. If the host dies before it, the event is posted again with the same
    // key, by which the subscriber knows it.
    thisMonth.set(id, "");
    counts.increment(`delivered ${type}`);
    forgetSome(before);
}

/** Returns the buckets of ids. Three take turns, a month each: while two are looked into, the third is emptied for next month. */
function delivered() {
    const now = new Date();
    const month = now.getUTCFullYear() * 12 + now.getUTCMonth();
    const [thisMonth, before, lastMonth] = [0, 1, 2].map((turn) => keyvalue.open(`delivered-${(month + turn) % 3}`));
    return { thisMonth, lastMonth, before };
}

function forgetSome(bucket) {
    const ids = [];
    for (const id of bucket.keys()) {
        if (ids.push(id) === FORGOTTEN_AT_A_TIME_MAX) {
            break;
        }
    }
    bucket.deleteMany(ids);
}

async function post(body, key) {
    const headers = {
        "content-type": "application/json",
        "idempotency-key": key,
        authorization: `Bearer ${config.get("token")}`,
    };
    const signal = AbortSignal.timeout(ANSWER_MILLISECONDS_MAX);
    try {
        // A redirect that is followed makes a GET of it, whose success delivers nothing.
        return await fetch(config.get("webhook"), { method: "POST", headers, body, signal, redirect: "manual" });
    } catch (error) {
        // Too late, not reachable, or not granted yet.
        throw new Retry(error.message);
    }
}

function refused({ status, headers }) {
    const why = `the webhook answers ${status}`;
    const seconds = Number(headers.get("retry-after"));
    if (seconds > 0) {
        return new RetryAfter(why, seconds);
    }
    return status >= 500 || status === 429 ? new Retry(why) : new Reject(why);
}
