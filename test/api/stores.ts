import type { Backend } from '../support/queues.ts';

/** The stores of a server under test. */
export interface Stores {
  databaseUrl: string;
  queueUrl: string;
  prefix: string;
}

export function storesOf({ database, queueUrl, prefix }: Backend): Stores {
  return { databaseUrl: database.url, queueUrl, prefix };
}
