// node build.js WIT OUTPUT: makes the handler beside this file a component, without anything that it would want a grant for.
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [wit, output] = process.argv.slice(2);
const { component } = await componentize({
    sourcePath: 'handler.js',
    witPath: wit,
    worldName: 'worker',
    disableFeatures: ['http', 'fetch-event', 'random', 'clocks', 'stdio'],
});
await writeFile(output, component);
