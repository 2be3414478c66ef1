/**
 * The loop behind promises and timers in a component.
 *
 * The engine runs its own promises only after a call that the contract has not got (an asynchronous one), so the bundle brings
 * promises that run here, and a handler may be an `async` function. Waiting is the host's: it costs no processor time.
 *
 * @module
 */

import { subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.12";

/** @typedef {{ id: number, due: number, every: number | undefined, run: () => void }} Timer */

const NANOSECONDS = 1e6;

/** @type {(() => void)[]} */
let jobs = [];
/** @type {Timer[]} By the time at which they are due; those of the same time in the order in which they were set. */
let timers = [];
let lastId = 0;

/** @param {() => void} job */
export function enqueue(job) {
    jobs.push(job);
}

/**
 * @param {() => void} run
 * @param {number} delay In milliseconds.
 * @param {boolean} repeats
 * @returns {number}
 */
export function setTimer(run, delay, repeats) {
    const wait = delay > 0 ? delay : 0;
    lastId += 1;
    insert({ id: lastId, due: performance.now() + wait, every: repeats ? wait : undefined, run });
    return lastId;
}

/** @param {number} id */
export function clearTimer(id) {
    timers = timers.filter((timer) => timer.id !== id);
}

/** Runs everything that can run without waiting. */
export function drain() {
    while (jobs.length > 0) {
        const batch = jobs;
        jobs = [];
        for (const job of batch) {
            job();
        }
    }
}

/**
 * Runs until this says that it is done.
 *
 * @param {() => boolean} isDone
 */
export function runUntil(isDone) {
    drain();
    while (!isDone()) {
        const timer = timers.shift();
        if (!timer) {
            throw new Error("the handler waits for a promise that nothing will ever settle");
        }
        const wait = timer.due - performance.now();
        if (wait > 0) {
            subscribeDuration(Math.ceil(wait * NANOSECONDS)).block();
        }
        if (timer.every !== undefined) {
            insert({ ...timer, due: performance.now() + timer.every });
        }
        timer.run();
        drain();
    }
}

/** Forgets what an attempt has left behind, so that the next one in this instance starts with nothing. */
export function reset() {
    jobs = [];
    timers = [];
}

/** @param {Timer} timer */
function insert(timer) {
    const later = timers.findIndex(({ due }) => due > timer.due);
    timers.splice(later < 0 ? timers.length : later, 0, timer);
}
