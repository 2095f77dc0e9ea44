import { once } from 'node:events';
import { createRedisBackend } from 'bullmq';
import type { QueueBaseOptions } from 'bullmq';
import { Redis } from 'ioredis';
import type { Cluster } from 'ioredis';
import type { QueuesOptions, QueueStore } from './store.ts';
import { raceAbort } from '../lib/abort.ts';
import { answerInfoWithVersion, readRedisDurability } from './redis-info.ts';
import { createRedisClient, parseRedisUrl } from './redis-url.ts';
import type { ClientOptions } from './redis-url.ts';
import { CALLS_IN_BATCH, batchScripts } from './script-batches.ts';

/**
 * Queues on Redis. All of a process's queues share one connection for commands; what blocks gets its own.
 *
 * A producer's commands fail at once while the connection is away, so that nothing is published later than its caller
 * believes. A consumer's wait.
 */
export function openRedisStore(url: URL, { role, onError }: QueuesOptions): QueueStore {
  const target = parseRedisUrl(url);
  const opened: (Redis | Cluster)[] = [];
  const open = (options: ClientOptions) => {
    const client = answerInfoWithVersion(createRedisClient(target, options));
    if (client instanceof Redis) batchScripts(client);
    opened.push(client);
    return client;
  };
  const commands = duplicatedBy(
    open({ maxRetriesPerRequest: role === 'producer' ? 0 : null, enableOfflineQueue: role !== 'producer' }),
    (options) => open({ ...options, maxRetriesPerRequest: null }),
  );
  commands.on('error', onError);

  // Its failure is told by the error event, and repaired by the next attempt.
  const connect = () => {
    if (commands.status === 'wait') commands.connect().catch(() => undefined);
  };

  let becomingReady: Promise<unknown> | undefined;
  const becomeReady = (): Promise<unknown> => {
    becomingReady ??= once(commands, 'ready').finally(() => (becomingReady = undefined));
    connect();
    return becomingReady;
  };

  return {
    kind: 'redis',
    jobsAtOnce: target.kind === 'cluster' ? 1 : CALLS_IN_BATCH,
    hashTags: target.kind === 'cluster',
    factory: (name, options, roles) => {
      connect();
      const withConnection: QueueBaseOptions = { ...options, connection: commands };
      return createRedisBackend(name, withConnection, roles);
    },
    async ready(signal) {
      if (commands.status !== 'ready') await raceAbort(becomeReady(), signal);
    },
    async assertMigrated() {},
    async ping() {
      await commands.ping();
    },
    durability: () => readRedisDurability(commands),
    async close() {
      // What BullMQ has not closed by now waits for Redis to come back. To close what is closed already would keep the
      // process for two seconds.
      for (const client of opened.filter(({ status }) => status !== 'end')) client.disconnect();
    },
  };
}

/** What BullMQ gives when it duplicates a client: of a single Redis the first, of a cluster the second. */
type DuplicateArguments = [given?: ClientOptions, ofCluster?: { redisOptions?: ClientOptions }];

/**
 * BullMQ duplicates the client it is given for what blocks. A duplicate is connecting already when BullMQ gets it: one
 * that BullMQ has to connect is given up for good when the first attempt fails.
 */
function duplicatedBy(client: Redis | Cluster, open: (options: ClientOptions) => Redis | Cluster): Redis | Cluster {
  const duplicate = (...[given, ofCluster]: DuplicateArguments) => {
    const connectionName = given?.connectionName ?? ofCluster?.redisOptions?.connectionName;
    return open({ lazyConnect: false, ...(connectionName === undefined ? {} : { connectionName }) });
  };
  return Object.assign(client, { duplicate });
}
