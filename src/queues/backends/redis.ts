import { once } from 'node:events';
import { callbackify } from 'node:util';
import { createRedisBackend } from 'bullmq';
import type { QueueBaseOptions } from 'bullmq';
import { Redis } from 'ioredis';
import type { Cluster } from 'ioredis';
import { raceAbort } from '../../lib/abort.ts';
import type { QueueBackend, QueueDurability, QueuesOptions } from './backend.ts';
import { redisClients } from './redis-client.ts';
import type { ClientOptions } from './redis-client.ts';
import { MAX_BATCH_SIZE, batchScripts } from './redis-script-batching.ts';
import { parseRedisUrl } from './redis-url.ts';

/**
 * Queues on Redis. All queues of a process share one connection for commands; each blocking command has its own.
 *
 * A producer's commands fail immediately while Redis is unreachable, so that nothing is published after its caller gave
 * up. A consumer's wait.
 */
export function openRedisBackend(queueUrl: string, { role, onError }: QueuesOptions): QueueBackend {
  const settings = parseRedisUrl(queueUrl);
  const createClient = redisClients(settings);
  const isCluster = settings.kind === 'cluster';
  const opened: (Redis | Cluster)[] = [];
  const open = (options: ClientOptions) => {
    const client = answerInfoWithVersion(createClient(options));
    if (client instanceof Redis) batchScripts(client);
    opened.push(client);
    return client;
  };
  const commands = withDuplicate(
    open({ maxRetriesPerRequest: role === 'producer' ? 0 : null, enableOfflineQueue: role !== 'producer' }),
    (options) => open({ ...options, maxRetriesPerRequest: null }),
  );
  commands.on('error', onError);

  // A failure is reported by the error event, and ioredis reconnects.
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
    maxPrefetch: isCluster ? 1 : MAX_BATCH_SIZE,
    hashTags: isCluster,
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
    durability: () => readDurability(commands),
    async close() {
      // Clients that BullMQ has not closed wait to reconnect. Disconnecting a closed one would keep the process alive for
      // two seconds.
      for (const client of opened.filter(({ status }) => status !== 'end')) client.disconnect();
    },
  };
}

/** What BullMQ passes to `duplicate`: the first argument for a single Redis, the second for a cluster. */
type DuplicateArguments = [options?: ClientOptions, clusterOptions?: { redisOptions?: ClientOptions }];

/**
 * BullMQ duplicates the given client for blocking commands. A duplicate connects immediately: BullMQ abandons one that it
 * has to connect itself when the first attempt fails.
 */
function withDuplicate(client: Redis | Cluster, open: (options: ClientOptions) => Redis | Cluster): Redis | Cluster {
  const duplicate = (...[options, clusterOptions]: DuplicateArguments) => {
    const connectionName = options?.connectionName ?? clusterOptions?.redisOptions?.connectionName;
    return open({ lazyConnect: false, ...(connectionName === undefined ? {} : { connectionName }) });
  };
  return Object.assign(client, { duplicate });
}

/** Since this version BullMQ can block for fractions of a second. ACLs that forbid INFO are not much older. */
const ASSUMED_VERSION = '6.2.0';

/**
 * BullMQ sends INFO on every connection to learn the server's version. It fails where that is not permitted, and prints
 * a warning where jobs can be evicted, which is up to {@link readDurability}. So it is answered with the version only.
 *
 * ioredis sends INFO with a callback, to learn whether the server has loaded its data, and prints a warning where that is
 * not permitted. There it is answered with a version as well, which it takes for a yes.
 */
function answerInfoWithVersion<Client extends Redis | Cluster>(client: Client): Client {
  const sendInfo = client.info.bind(client);
  const infoOrVersion = () =>
    sendInfo().catch((error: unknown) => {
      if (isNotPermitted(error)) return `redis_version:${ASSUMED_VERSION}`;
      throw error;
    });
  const info = (callback?: InfoCallback): Promise<string> => {
    const answered = infoOrVersion();
    if (callback === undefined) return answered.then(versionLines);
    callbackify(() => answered)(callback);
    return answered;
  };
  return Object.assign(client, { info });
}

type InfoCallback = (error: Error | null, answer: string) => void;

function versionLines(info: string): string {
  const lines = info.split(/\r?\n/);
  return lines.filter((line) => /version:|^server:/.test(line)).join('\r\n');
}

/** Whether Redis can lose jobs; of a cluster, whether one of its masters can. */
async function readDurability(client: Redis | Cluster): Promise<QueueDurability> {
  try {
    const nodes = 'nodes' in client ? await readMasters(client) : [client];
    const answers = await Promise.all(nodes.map(readInfo));
    const policies = answers.map((answer) => answer.get('maxmemory_policy'));
    if (policies.includes(undefined)) return { known: false, reason: 'its INFO names no maxmemory_policy' };
    return {
      known: true,
      evictionPolicy: policies.find((policy) => policy !== 'noeviction') ?? 'noeviction',
      survivesRestart: answers.every((answer) => answer.get('aof_enabled') !== '0'),
    };
  } catch (error) {
    if (!isNotPermitted(error)) throw error;
    return { known: false, reason: error.message };
  }
}

/** The nodes are discovered once the cluster has answered a command. */
async function readMasters(cluster: Cluster): Promise<Redis[]> {
  await cluster.ping();
  return cluster.nodes('master');
}

/** INFO works where CONFIG is disabled. `call` bypasses {@link answerInfoWithVersion}. */
async function readInfo(node: Redis | Cluster): Promise<Map<string, string>> {
  const sections = await Promise.all(['memory', 'persistence'].map((section) => node.call('INFO', section)));
  const lines = sections.join('\r\n').split(/\r?\n/);
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}

/** Whether the ACL forbids the command, or it was renamed. */
function isNotPermitted(error: unknown): error is Error {
  return error instanceof Error && /^(NOPERM|ERR unknown command)/.test(error.message);
}
