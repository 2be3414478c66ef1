/**
 * `ReadableStream`, as far as bodies need it: readers, iteration, `cancel`, `tee` and `from`. There are no byte readers, and no
 * streams to pipe into.
 *
 * @module
 */

/**
 * What a stream is made of.
 *
 * @typedef {object} Source
 * @property {(controller: Controller) => unknown} [start]
 * @property {(controller: Controller) => unknown} [pull]
 * @property {(reason: unknown) => unknown} [cancel]
 */

/** @typedef {{ highWaterMark?: number, size?: (chunk: any) => number }} Strategy */
/** @typedef {{ value: any, done: boolean }} Read */
/** @typedef {{ resolve: (read: Read) => void, reject: (error: unknown) => void }} Request */

export class ReadableStream {
    /** @type {Controller} */
    #controller;
    /** @type {Reader | undefined} */
    #reader;

    /**
     * @param {Source} [source]
     * @param {Strategy} [strategy]
     */
    constructor(source = {}, strategy = {}) {
        this.#controller = new Controller(source, strategy);
    }

    get locked() {
        return this.#reader !== undefined;
    }

    /**
     * Whether anybody has read from it, or cancelled it.
     *
     * @internal
     */
    get wasRead() {
        return this.#controller.wasRead;
    }

    getReader() {
        if (this.locked) {
            throw new TypeError("the stream is locked: it has a reader already");
        }
        const reader = new Reader(this.#controller, () => (this.#reader = undefined));
        this.#reader = reader;
        return reader;
    }

    /** @param {unknown} [reason] */
    cancel(reason) {
        if (this.locked) {
            return Promise.reject(new TypeError("the stream is locked: cancel its reader"));
        }
        return this.#controller.cancel(reason);
    }

    /** @param {{ preventCancel?: boolean }} [options] */
    async *values({ preventCancel = false } = {}) {
        const reader = this.getReader();
        let ended = false;
        try {
            for (;;) {
                const { value, done } = await reader.read().catch((error) => {
                    ended = true;
                    throw error;
                });
                if (done) {
                    ended = true;
                    return;
                }
                yield value;
            }
        } finally {
            if (!ended && !preventCancel) {
                reader.cancel();
            }
            reader.releaseLock();
        }
    }

    [Symbol.asyncIterator]() {
        return this.values();
    }

    /** @returns {[ReadableStream, ReadableStream]} */
    tee() {
        const reader = this.getReader();
        /** @type {Controller[]} */
        const branches = [];
        let [reading, open] = [false, 2];
        const pull = async () => {
            if (reading) {
                return;
            }
            reading = true;
            try {
                const { value, done } = await reader.read();
                branches.forEach((branch) => (done ? branch.close() : branch.enqueue(value)));
            } catch (error) {
                branches.forEach((branch) => branch.error(error));
            } finally {
                reading = false;
            }
        };
        const branch = () =>
            new ReadableStream({
                start: (controller) => branches.push(controller),
                pull,
                cancel: (reason) => --open === 0 && reader.cancel(reason),
            });
        return [branch(), branch()];
    }

    /** @param {AsyncIterable<any> | Iterable<any>} iterable */
    static from(iterable) {
        const any = /** @type {any} */ (iterable);
        const iterator = (any[Symbol.asyncIterator] ?? any[Symbol.iterator]).call(any);
        return new ReadableStream(
            {
                async pull(controller) {
                    const { value, done } = await iterator.next();
                    done ? controller.close() : controller.enqueue(value);
                },
                cancel: (reason) => iterator.return?.(reason),
            },
            { highWaterMark: 0 },
        );
    }
}

/** What a source sees of its stream, and the state of it. */
class Controller {
    /** @type {Source} */
    #source;
    #highWaterMark;
    #size;
    /** @type {{ chunk: any, size: number }[]} */
    #queue = [];
    #queued = 0;
    /** @type {Request[]} Reads that wait for a chunk. */
    #waiting = [];
    /** @type {"open" | "closing" | "closed" | "failed"} */
    #state = "open";
    /** @type {unknown} */
    #error;
    #started = false;
    #pulling = false;
    #pullAgain = false;
    wasRead = false;
    /** @type {(() => void)[]} */
    #onEnd = [];

    /**
     * @param {Source} source
     * @param {Strategy} strategy
     */
    constructor(source, { highWaterMark = 1, size = () => 1 }) {
        this.#source = source;
        this.#highWaterMark = highWaterMark;
        this.#size = size;
        Promise.resolve(source.start?.(this)).then(
            () => {
                this.#started = true;
                this.#pull();
            },
            (error) => this.error(error),
        );
    }

    get desiredSize() {
        return this.#state === "failed" ? null : this.#state === "closed" ? 0 : this.#highWaterMark - this.#queued;
    }

    /** @param {any} chunk */
    enqueue(chunk) {
        if (this.#state !== "open") {
            if (this.#state === "closed") {
                return;
            }
            throw new TypeError("nothing can be added to a stream that has ended");
        }
        const waiting = this.#waiting.shift();
        if (waiting) {
            waiting.resolve({ value: chunk, done: false });
        } else {
            const size = this.#size(chunk);
            this.#queue.push({ chunk, size });
            this.#queued += size;
        }
        this.#pull();
    }

    close() {
        if (this.#state !== "open") {
            return;
        }
        this.#state = "closing";
        if (this.#queue.length === 0) {
            this.#end();
        }
    }

    /** @param {unknown} error */
    error(error) {
        if (this.#state === "closed" || this.#state === "failed") {
            return;
        }
        this.#state = "failed";
        this.#error = error;
        this.#drop();
        this.#waiting.splice(0).forEach(({ reject }) => reject(error));
        this.#onEnd.splice(0).forEach((run) => run());
    }

    /** @returns {Promise<Read>} */
    read() {
        this.wasRead = true;
        const first = this.#queue.shift();
        if (first) {
            this.#queued -= first.size;
            if (this.#state === "closing" && this.#queue.length === 0) {
                this.#end();
            } else {
                this.#pull();
            }
            return Promise.resolve({ value: first.chunk, done: false });
        }
        if (this.#state === "failed") {
            return Promise.reject(this.#error);
        }
        if (this.#state === "closed") {
            return Promise.resolve({ value: undefined, done: true });
        }
        return new Promise((resolve, reject) => {
            this.#waiting.push({ resolve, reject });
            this.#pull();
        });
    }

    /** @param {unknown} [reason] */
    async cancel(reason) {
        this.wasRead = true;
        if (this.#state === "failed") {
            throw this.#error;
        }
        if (this.#state !== "closed") {
            this.#drop();
            this.#end();
            await this.#source.cancel?.(reason);
        }
    }

    /** Resolves when the stream has ended. */
    ended() {
        return new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
            const settle = () => (this.#state === "failed" ? reject(this.#error) : resolve());
            this.#state === "open" || this.#state === "closing" ? this.#onEnd.push(settle) : settle();
        });
    }

    #end() {
        this.#state = "closed";
        this.#waiting.splice(0).forEach(({ resolve }) => resolve({ value: undefined, done: true }));
        this.#onEnd.splice(0).forEach((run) => run());
    }

    #drop() {
        this.#queue = [];
        this.#queued = 0;
    }

    /** Asks the source for more, if somebody waits for it or there is room. */
    #pull() {
        const wanted = this.#waiting.length > 0 || this.#queued < this.#highWaterMark;
        if (!this.#started || this.#state !== "open" || !wanted || !this.#source.pull) {
            return;
        }
        if (this.#pulling) {
            this.#pullAgain = true;
            return;
        }
        this.#pulling = true;
        new Promise((resolve) => resolve(this.#source.pull?.(this))).then(
            () => {
                this.#pulling = false;
                if (this.#pullAgain) {
                    this.#pullAgain = false;
                    this.#pull();
                }
            },
            (error) => this.error(error),
        );
    }
}

/** `ReadableStreamDefaultReader`. */
class Reader {
    /** @type {Controller | undefined} */
    #controller;
    #release;
    /** @type {Promise<void> | undefined} */
    #closed;

    /**
     * @param {Controller} controller
     * @param {() => void} release
     */
    constructor(controller, release) {
        this.#controller = controller;
        this.#release = release;
    }

    // Made when it is asked for, since a failure that nobody looks at would be logged.
    get closed() {
        this.#closed ??= this.#held().ended();
        return this.#closed;
    }

    async read() {
        return this.#held().read();
    }

    /** @param {unknown} [reason] */
    async cancel(reason) {
        return this.#held().cancel(reason);
    }

    releaseLock() {
        this.#controller = undefined;
        this.#release();
    }

    #held() {
        if (!this.#controller) {
            throw new TypeError("the reader has released its stream");
        }
        return this.#controller;
    }
}
