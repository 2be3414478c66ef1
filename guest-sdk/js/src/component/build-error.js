/**
 * Mistakes of whoever builds.
 *
 * @module
 */

/** A mistake of whoever builds: its message says it all. */
export class BuildError extends Error {}
