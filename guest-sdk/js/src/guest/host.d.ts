// What the host offers to a component, as far as this package uses it.

declare module "sandhog:worker/sender@0.1.0" {
    export function send(queue: string, message: object): void;
    export function sendMany(queue: string, messages: object[]): void;
}

declare module "wasi:logging/logging@0.1.0-draft" {
    export function log(level: string, context: string, message: string): void;
}

declare module "wasi:clocks/monotonic-clock@0.2.12" {
    export function subscribeDuration(nanoseconds: number): { block(): void };
}

declare module "wasi:random/random@0.2.12" {
    export function getRandomBytes(length: number): Uint8Array<ArrayBuffer>;
}

declare module "promise-polyfill" {
    const promise: PromiseConstructor;
    export default promise;
}
