import { leaseReleaseSchema } from '../contracts/index.ts';
import type { Handler } from './handler.ts';

/** A lease waits for its cleanup: what its driver left outside Postgres is removed, and the lease ends. */
export const leaseReleaseHandler: Handler<typeof leaseReleaseSchema> = {
  queue: 'lease-release',
  schema: leaseReleaseSchema,
  handle: ({ submit }, payload) => submit({ kind: 'release', payload }),
};
