import type { FoundPostgres, FoundStore, MissingStore } from '../../testing/stores/find-stores.ts';

/** The stores of a test run, as the global setup found them. */
export interface TestStores {
  /** With the migrated database that each test file clones. */
  postgres: FoundPostgres & { templateDatabase: string };
  redis: FoundStore | MissingStore;
}

declare module 'vitest' {
  interface ProvidedContext {
    stores: TestStores;
  }
}
