/**
 * Puts the globals of the web where code looks for them that does not name them: into the global object.
 *
 * @module
 */

import * as globals from "./inject.js";

Object.assign(globalThis, globals);
