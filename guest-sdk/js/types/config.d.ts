export namespace config {
    /**
     * Returns a value, nothing if the manifest has none of this name.
     *
     * @param {string} name
     * @returns {string | undefined}
     */
    function get(name: string): string | undefined;
    /**
     * Returns all values.
     *
     * @returns {Map<string, string>}
     */
    function all(): Map<string, string>;
}
