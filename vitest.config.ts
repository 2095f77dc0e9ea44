import { configDefaults, defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // They stop servers, wait for time limits, or take long: `npm run test:faults`.
    exclude: [...configDefaults.exclude, 'test/faults/**', 'test/**/*.slow.test.ts'],
    globalSetup: './test/support/global-setup.ts',
    reporters: ['default', './test/support/reporter.ts'],
    pool: 'forks',
    // One more than the two cores that CI has: tests mostly wait for the stores.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    restoreMocks: true,
  },
});
