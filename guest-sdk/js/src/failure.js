/**
 * Why a message was not handled: what a handler throws.
 *
 * @module
 */

/** The longest delay: 12 hours. */
const DELAY_SECONDS_MAX = 43_200;

/**
 * Why a message was not handled. The reason is for people: it is logged, and kept with a dead letter. What the handler
 * sent is dropped.
 *
 * One of {@link Retry}, {@link RetryAfter} and {@link Reject}.
 */
export class Failure extends Error {
    /**
     * @param {string} reason
     * @param {ErrorOptions} [options] `cause`: the error behind it, whose message is added to the reason.
     */
    constructor(reason, options) {
        super(withCause(reason, options?.cause), options);
        this.name = new.target.name;
    }

    /** Why, for people. */
    get reason() {
        return this.message;
    }
}

/** Something that may pass: the message becomes visible again after a growing delay, up to the queue's limit of receives. */
export class Retry extends Failure {}

/** As {@link Retry}, but after a delay of the handler's choice. */
export class RetryAfter extends Failure {
    /**
     * @param {string} reason
     * @param {number} seconds 0 to 43200; a larger number counts as 43200, and a fraction is rounded up.
     * @param {ErrorOptions} [options] `cause`: the error behind it, whose message is added to the reason.
     */
    constructor(reason, seconds, options) {
        super(reason, options);
        if (!(seconds >= 0)) {
            throw new TypeError(`a delay of ${seconds} seconds is not 0 to ${DELAY_SECONDS_MAX}`);
        }
        /**
         * How long the message stays hidden, in whole seconds.
         *
         * @readonly
         * @type {number}
         */
        this.seconds = Math.min(Math.ceil(seconds), DELAY_SECONDS_MAX);
    }
}

/** Something that will never pass: the message goes to the dead-letter queue at once. */
export class Reject extends Failure {}

/**
 * @param {string} reason
 * @param {unknown} cause
 * @returns {string}
 */
function withCause(reason, cause) {
    if (cause === undefined) {
        return reason;
    }
    return `${reason}: ${cause instanceof Error ? cause.message : String(cause)}`;
}
