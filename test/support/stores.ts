/** A store that tests run against. */
export interface FoundStore {
  url: string;
  /** Version and origin, for people. Never a password. */
  origin: string;
}

/** The Postgres server of a run, with the migrated database that each test file clones its own from. */
export interface PostgresStore extends FoundStore {
  templateDatabase: string;
  /** Whether the server outlives the run, so that a database can be kept for whoever looks into a failure. */
  lasting: boolean;
}

/** Where there is no Redis, why: its tests are skipped then, and the summary says so. */
export interface MissingStore {
  missing: string;
}

/** What the global setup found. */
export interface Stores {
  postgres: PostgresStore;
  redis: FoundStore | MissingStore;
}

declare module 'vitest' {
  interface ProvidedContext {
    stores: Stores;
  }
}
