import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package, seen from where the bench is compiled to: `bench/dist/bench`. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** Where reports go that were not made for keeping. */
export const QUICK_RESULTS = join(ROOT, 'bench/results/quick');

export const RESULTS = join(ROOT, 'bench/results');
