// What the host offers to a component, as far as this package uses it.

declare module "sandhog:worker/sender@0.1.0" {
    export function send(queue: string, message: object): void;
    export function sendMany(queue: string, messages: object[]): void;
}

declare module "wasi:logging/logging@0.1.0-draft" {
    export function log(level: string, context: string, message: string): void;
}

declare module "sandhog:worker/crash@0.1.0" {
    export function report(reason: string, stack: string): void;
}

declare module "wasi:cli/exit@0.2.12" {
    export function exit(status: { tag: "ok" | "err" }): void;
}

declare module "wasi:io/poll@0.2.12" {
    export interface Pollable extends Disposable {}
    export function poll(pollables: Pollable[]): number[];
}

declare module "wasi:clocks/monotonic-clock@0.2.12" {
    import { Pollable } from "wasi:io/poll@0.2.12";
    export function subscribeDuration(nanoseconds: number): Pollable;
}

declare module "wasi:http/types@0.2.12" {
    export const Fields: any, OutgoingBody: any, OutgoingRequest: any;
    export function httpErrorCode(error: object): { tag: string; val?: any } | null;
}

declare module "wasi:http/outgoing-handler@0.2.12" {
    export function handle(request: object, options: object | null): any;
}

declare module "wasi:keyvalue/store@0.2.0-draft2" {
    export function open(name: string): any;
}

declare module "wasi:keyvalue/atomics@0.2.0-draft2" {
    export const Cas: any;
    export function increment(bucket: object, key: string, delta: number): number;
    export function swap(noted: object, value: Uint8Array): void;
}

declare module "wasi:keyvalue/batch@0.2.0-draft2" {
    export function getMany(bucket: object, keys: string[]): ([string, Uint8Array] | null)[];
    export function setMany(bucket: object, entries: [string, Uint8Array][]): void;
    export function deleteMany(bucket: object, keys: string[]): void;
}

declare module "wasi:config/store@0.2.0-rc.1" {
    export function get(name: string): string | null;
    export function getAll(): [string, string][];
}

declare module "@ungap/structured-clone" {
    export default function structuredClone<T>(value: T): T;
}

declare module "wasi:random/random@0.2.12" {
    export function getRandomBytes(length: number): Uint8Array<ArrayBuffer>;
}

declare module "promise-polyfill" {
    const promise: PromiseConstructor;
    export default promise;
}
