import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the package, relative to the compiled bench in `bench/dist/bench`. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** The folder of reports that are not kept. */
export const QUICK_RESULTS = join(ROOT, 'bench/results/quick');

export const RESULTS = join(ROOT, 'bench/results');
