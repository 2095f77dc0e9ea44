import { runHeartbeatSchema } from '../contracts/index.ts';
import type { Handler } from './handler.ts';

/** A run is alive: its leases are renewed. */
export const runHeartbeatHandler: Handler<typeof runHeartbeatSchema> = {
  queue: 'run-heartbeat',
  schema: runHeartbeatSchema,
  handle: ({ submit }, payload) => submit({ kind: 'renew', payload }),
};
