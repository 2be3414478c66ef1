/**
 * The loop behind promises, timers and requests in a component.
 *
 * The engine runs its own promises only after a call that the contract has not got (an asynchronous one), so the bundle brings
 * promises that run here, and a handler may be an `async` function. Waiting is the host's: it costs no processor time.
 *
 * @module
 */

import { subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.12";
import { poll } from "wasi:io/poll@0.2.12";
import { atEnd } from "./attempt.js";

/** @typedef {{ id: number, due: number, every: number | undefined, run: () => void }} Timer */
/** @typedef {import("wasi:io/poll@0.2.12").Pollable} Pollable */
/** @typedef {{ pollable: Pollable, run: () => void }} Wait */

const NANOSECONDS = 1e6;

/** @type {(() => void)[]} */
let jobs = [];
/** @type {Timer[]} By the time at which they are due; those of the same time in the order in which they were set. */
let timers = [];
/** @type {Wait[]} */
let waits = [];
let lastId = 0;

atEnd(() => {
    jobs = [];
    timers = [];
    waits = [];
});

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

/**
 * Runs something once, when the host says that a pollable is ready.
 *
 * @param {Pollable} pollable
 * @param {() => void} run
 */
export function whenReady(pollable, run) {
    waits.push({ pollable, run });
}

/**
 * Ends a wait. It must end before its pollable is dropped.
 *
 * @param {Pollable} pollable
 */
export function stopWaiting(pollable) {
    waits = waits.filter((wait) => wait.pollable !== pollable);
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
        const left = timers.length > 0 ? timers[0].due - performance.now() : Infinity;
        if (left > 0) {
            pause(left);
        }
        const timer = timers[0];
        if (timer && timer.due <= performance.now()) {
            timers.shift();
            if (timer.every !== undefined) {
                insert({ ...timer, due: performance.now() + timer.every });
            }
            timer.run();
        }
        drain();
    }
}

/**
 * Waits until something is ready, and no longer than so many milliseconds.
 *
 * @param {number} left
 */
function pause(left) {
    if (left === Infinity && waits.length === 0) {
        throw new Error("the handler waits for a promise that nothing will ever settle");
    }
    const pollables = waits.map(({ pollable }) => pollable);
    const alarm = left === Infinity ? undefined : subscribeDuration(Math.ceil(left * NANOSECONDS));
    try {
        const woken = new Set(poll(alarm ? [...pollables, alarm] : pollables));
        const due = waits.filter((_, index) => woken.has(index));
        waits = waits.filter((_, index) => !woken.has(index));
        due.forEach(({ run }) => run());
    } finally {
        alarm?.[Symbol.dispose]();
    }
}

/** @param {Timer} timer */
function insert(timer) {
    const later = timers.findIndex(({ due }) => due > timer.due);
    timers.splice(later < 0 ? timers.length : later, 0, timer);
}
