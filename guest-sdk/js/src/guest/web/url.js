/**
 * `URL` and `URLSearchParams`, by a package: the standard's own algorithm without tables for names of hosts in other scripts.
 *
 * @module
 */

export { URL, URLSearchParams } from "whatwg-url-minimum";
