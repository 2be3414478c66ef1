/**
 * @param {string} name
 * @returns {string | undefined}
 */
export function readOne(name: string): string | undefined;
/** @returns {Map<string, string>} */
export function readAll(): Map<string, string>;
