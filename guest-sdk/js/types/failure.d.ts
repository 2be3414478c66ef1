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
    constructor(reason: string, options?: ErrorOptions);
    /** Why, for people. */
    get reason(): string;
}
/** Something that may pass: the message becomes visible again after a growing delay, up to the queue's limit of receives. */
export class Retry extends Failure {
}
/** As {@link Retry}, but after a delay of the handler's choice. */
export class RetryAfter extends Failure {
    /**
     * @param {string} reason
     * @param {number} seconds 0 to 43200; a larger number counts as 43200, and a fraction is rounded up.
     * @param {ErrorOptions} [options] `cause`: the error behind it, whose message is added to the reason.
     */
    constructor(reason: string, seconds: number, options?: ErrorOptions);
    /**
     * How long the message stays hidden, in whole seconds.
     *
     * @readonly
     * @type {number}
     */
    readonly seconds: number;
}
/** Something that will never pass: the message goes to the dead-letter queue at once. */
export class Reject extends Failure {
}
