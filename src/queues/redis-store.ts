import { once } from 'node:events';
import { createRedisBackend } from 'bullmq';
import type { QueueBaseOptions } from 'bullmq';
import type { QueuesOptions, QueueStore } from './store.ts';
import { untilAborted } from './until-aborted.ts';
import { createRedisClient, parseRedisUrl } from './redis-url.ts';

/**
 * Queues on Redis. All of a process's queues share one connection for commands; what blocks gets its own.
 *
 * A producer's commands fail at once while the connection is away, so that nothing is published later than its caller
 * believes. A consumer's wait.
 */
export function openRedisStore(url: URL, { role, onError }: QueuesOptions): QueueStore {
  const target = parseRedisUrl(url);
  const commands = createRedisClient(target, {
    maxRetriesPerRequest: role === 'producer' ? 0 : null,
    enableOfflineQueue: role !== 'producer',
  });
  commands.on('error', onError);
  // What blocks is duplicated from this one, which itself never connects.
  const blocking = createRedisClient(target, { maxRetriesPerRequest: null });
  blocking.on('error', onError);

  let becomingReady: Promise<unknown> | undefined;
  const becomeReady = (): Promise<unknown> => {
    becomingReady ??= once(commands, 'ready').finally(() => (becomingReady = undefined));
    // Its failure arrives as the error event that `becomingReady` rejects with.
    if (commands.status === 'wait') commands.connect().catch(() => undefined);
    return becomingReady;
  };

  return {
    kind: 'redis',
    hashTags: target.kind === 'cluster',
    factory: (name, options, roles) => {
      const connection = roles?.blocking === true ? blocking : commands;
      const withConnection: QueueBaseOptions = { ...options, connection };
      return createRedisBackend(name, withConnection, roles);
    },
    async ready(signal) {
      if (commands.status !== 'ready') await untilAborted(becomeReady(), signal);
    },
    async assertMigrated() {},
    async ping() {
      await commands.ping();
    },
    async close() {
      commands.disconnect();
      blocking.disconnect();
    },
  };
}
