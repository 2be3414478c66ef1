/**
 * @param {string} name
 * @returns {Bucket}
 */
export function openBucket(name: string): Bucket;
/**
 * @param {Content} content
 * @returns {Bucket}
 */
export function bucketOf(content: Content): Bucket;
export type Bucket = import("../keyvalue.js").Bucket;
export type Content = Map<string, Uint8Array>;
