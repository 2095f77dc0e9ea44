/** Owns a server until it is killed, for the tests of what is left behind. Argument: `idle` to have nothing else to do. */
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';

const { url } = await startEmbeddedPostgres();
process.stdout.write(`${url}\n`);
if (process.argv[2] !== 'idle') setInterval(() => undefined, 60_000);
