/**
 * Why a message was not accepted for sending.
 *
 * @module
 */

/**
 * Why a message was not accepted for sending.
 *
 * A handler that does not catch it fails as it fits: a missing grant is retried, since an operator can add it while the
 * messages wait; the other two are rejected, since the same message would fail again.
 */
export class SendError extends Error {
    /**
     * @param {SendErrorKind} kind
     * @param {string} reason
     */
    constructor(kind, reason) {
        super(`${SendError.#meaning[kind]}: ${reason}`);
        this.name = "SendError";
        /**
         * `not-granted`: the manifest does not grant this queue; `invalid`: the message itself is not acceptable; `limit`:
         * the attempt has sent as many messages, or as many bytes, as it may.
         *
         * @readonly
         * @type {SendErrorKind}
         */
        this.kind = kind;
    }

    static #meaning = {
        "not-granted": "sending is not granted",
        invalid: "the message to be sent is not valid",
        limit: "the attempt may not send more",
    };
}

/** @typedef {"not-granted" | "invalid" | "limit"} SendErrorKind */
