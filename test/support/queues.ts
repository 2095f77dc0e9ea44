import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { afterAll, describe, inject } from 'vitest';
import { useDatabase } from './database.ts';
import type { TestDatabase, UseDatabaseOptions } from './database.ts';

/** The queue backend that a suite runs on. */
export interface Backend {
  readonly kind: 'redis' | 'postgres';
  readonly queueUrl: string;
  /** The suite's own BullMQ prefix. The Postgres backend ignores it: its queues are in the suite's database. */
  readonly prefix: string;
  /** The suite's database, one per backend. On `postgres` it also holds the queues. */
  readonly database: TestDatabase;
}

/**
 * Runs a suite on both queue backends. Without a Redis its variant is skipped, which the summary of the run reports.
 */
export function describeOnEachBackend(
  name: string,
  suite: (backend: Backend) => void,
  options: UseDatabaseOptions = {},
): void {
  const { redis } = inject('stores');
  const prefix = `lessor-test-${randomBytes(5).toString('hex')}`;

  const missing = 'missing' in redis ? redis.missing : undefined;
  const redisUrl = 'url' in redis ? redis.url : 'redis://missing';
  const reason = missing === undefined ? '' : ` (not run: ${missing})`;
  describe.skipIf(missing !== undefined)(`${name}, on redis${reason}`, () => {
    const database = useDatabase(options);
    // Hooks run in reverse order after a suite, so what the suite opened is closed by then.
    afterAll(() => removeKeys(redisUrl, prefix));
    suite({ kind: 'redis', queueUrl: redisUrl, prefix, database });
  });

  describe(`${name}, on postgres`, () => {
    const database = useDatabase(options);
    suite({ kind: 'postgres', queueUrl: database.url, prefix, database });
  });
}

async function removeKeys(url: string, prefix: string): Promise<void> {
  const redis = new Redis(url);
  try {
    for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1_000 }) as AsyncIterable<string[]>) {
      if (keys.length > 0) await redis.unlink(...keys);
    }
  } finally {
    redis.disconnect();
  }
}
