/**
 * @param {import("../log.js").Level} level
 * @param {string} text
 */
export function write(level: import("../log.js").Level, text: string): void;
