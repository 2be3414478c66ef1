/**
 * Whether a message is being handled. Before the first one, while the component is made, there is no host to ask.
 *
 * @module
 */

let underWay = false;
/** @type {(() => void)[]} */
const endings = [];

export function begin() {
    underWay = true;
}

/** Forgets what an attempt has left behind, so that the next one in this instance starts with nothing. */
export function end() {
    underWay = false;
    endings.forEach((run) => run());
}

export function isUnderWay() {
    return underWay;
}

/**
 * Throws an error before a message is handled.
 *
 * @param {string} what What is not there yet.
 */
export function mustBeUnderWay(what) {
    if (!underWay) {
        throw new Error(`there is no ${what} before a message is handled: the top level of a module runs when it is built`);
    }
}

/** @type {Error | undefined} */
let promised;

/**
 * The same for what answers by a promise, whose end comes only when a message is handled.
 *
 * @param {string} what
 */
export function mustBeUnderWayToPromise(what) {
    try {
        mustBeUnderWay(what);
    } catch (error) {
        promised = /** @type {Error} */ (error);
        throw error;
    }
}

/** Throws the error of a promise that was made before a message is handled. */
export function refusePromises() {
    if (promised) {
        throw promised;
    }
}

/**
 * Adds what is to be done at the end of every attempt; what was added last is done first.
 *
 * @param {() => void} run
 */
export function atEnd(run) {
    endings.unshift(run);
}
