/** Lets `fetch` ask the test while a handler runs in one. */
export function takeOverFetch(): void;
/**
 * What answers in place of servers: a function, or answers by what is asked for, `"POST https://api.example.com/invoices"` or
 * the address alone. An error is what `fetch` fails with.
 */
export type Http = ((request: Request) => Answer | Promise<Answer>) | Record<string, Answer | ((request: Request) => Answer | Promise<Answer>)>;
export type Answer = Response | Error;
export type Hop = import("../redirect.js").Hop;
