/**
 * Passes messages and failures between the component's interface and a handler.
 *
 * @module
 */

import { startClock } from "./globals.js";
import { fromWit } from "../attribute.js";
import { Message } from "../message.js";
import { RetryAfter } from "../failure.js";
import { failureOf, failuresOf, kindOf, verdictOf } from "../verdict.js";
import { begin, end, refusePromises } from "./attempt.js";
import { crash } from "./crash.js";
import { runUntil } from "./loop.js";

/** @typedef {import("../failure.js").Failure} Failure */

/** What the build looks for, to make a component of the other kind. */
const OTHER_KIND = "sandhog: the default export is a ";

/**
 * Makes the component's exports of what a module exports by default.
 *
 * @param {{ default?: any }} module
 * @param {"handler" | "batch-handler"} kind The kind of component that is being built.
 */
export function exportsOf(module, kind) {
    if (kindOf(module) !== kind) {
        throw new Error(OTHER_KIND + kindOf(module));
    }
    refusePromises();
    return {
        /** @param {any} message */
        handle(message) {
            const failure = attempt(() => module.default(received(message)), failureOf);
            if (failure) {
                throw toWit(failure);
            }
        },
        /** @param {any[]} messages */
        handleBatch(messages) {
            const failures = attempt(() => module.default.handleBatch(messages.map(received)), failuresOf);
            const each = Array.isArray(failures) ? failures : messages.map(() => failures);
            return each.map((failure) => (failure ? { tag: "err", val: toWit(failure) } : { tag: "ok" }));
        },
    };
}

/**
 * Runs a handler to its end, and returns what it says, or the failure that it threw. Any other error ends the component, once
 * the host knows it.
 *
 * @template T
 * @param {() => unknown} start
 * @param {(value: unknown) => T} read
 * @returns {T | Failure}
 */
function attempt(start, read) {
    begin();
    startClock();
    try {
        return read(finished(start));
    } catch (error) {
        const failure = failureOf(error);
        if (failure) {
            return failure;
        }
        return crash(error);
    } finally {
        end();
    }
}

/**
 * Returns what a function returned, or what the promise that it returned became.
 *
 * @param {() => any} start
 * @returns {unknown}
 */
function finished(start) {
    /** @type {{ value?: unknown, error?: unknown } | undefined} */
    let end;
    const result = start();
    if (typeof result?.then !== "function") {
        end = { value: result };
    } else {
        result.then(
            (/** @type {unknown} */ value) => (end = { value }),
            (/** @type {unknown} */ error) => (end = { error }),
        );
    }
    runUntil(() => end !== undefined);
    if (end && "error" in end) {
        throw end.error;
    }
    return end?.value;
}

/**
 * @param {any} message
 * @returns {Message}
 */
function received(message) {
    return new Message({
        id: message.id,
        body: message.body,
        attributes: new Map(
            message.attributes.map((/** @type {[string, any]} */ [name, value]) => [name, fromWit(value)]),
        ),
        queue: message.queue,
        receiveCount: message.receiveCount,
        sentAt: new Date(Number(message.sentAtMs)),
        groupId: message.groupId ?? undefined,
    });
}

/** @param {Failure} failure */
function toWit(failure) {
    const reason = failure.reason.toWellFormed();
    return { tag: verdictOf(failure), val: failure instanceof RetryAfter ? [reason, failure.seconds] : reason };
}
