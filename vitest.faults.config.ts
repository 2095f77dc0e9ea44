import { configDefaults, defineConfig } from 'vitest/config';
import base from './vitest.config.ts';

/**
 * The fault suite: real worker processes and servers of its own that are stopped, cut off and killed. With it run the
 * tests that take too long for every day.
 */
export default defineConfig({
  test: {
    ...base.test,
    include: ['test/faults/**/*.test.ts', 'test/**/*.slow.test.ts'],
    exclude: configDefaults.exclude,
    // Twice the two cores that CI has: these tests wait for time limits.
    maxWorkers: 4,
    // What a fault takes to be noticed is a time limit of the product, and there are several in one test.
    testTimeout: 120_000,
  },
});
