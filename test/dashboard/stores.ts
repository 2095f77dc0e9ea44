import type { Backend } from '../support/queues.ts';

/** What a dashboard is given to look at. */
export interface Stores {
  databaseUrl: string;
  queueUrl: string;
  prefix: string;
}

export function storesOf({ database, queueUrl, prefix }: Backend): Stores {
  return { databaseUrl: database.url, queueUrl, prefix };
}
