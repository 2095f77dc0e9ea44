import { callbackify } from 'node:util';
import type { Cluster, Redis } from 'ioredis';
import type { QueueDurability } from './store.ts';

/** Since this version BullMQ can block for fractions of a second. An ACL that forbids INFO is not much older. */
const ASSUMED_VERSION = '6.2.0';

/**
 * BullMQ asks every connection for INFO, to learn the server's version: it fails where that is not permitted, and
 * writes to the console where jobs can be evicted, which {@link readRedisDurability} is to tell. So it is told the
 * version, and nothing else.
 *
 * ioredis asks too, with a callback, whether the server has loaded its data, and writes to the console where that is
 * not permitted: then it is told a version as well, which means as much as yes.
 */
export function answerInfoWithVersion<Client extends Redis | Cluster>(client: Client): Client {
  const ask = client.info.bind(client);
  const askIfPermitted = () =>
    ask().catch((error: unknown) => {
      if (isRefusal(error)) return `redis_version:${ASSUMED_VERSION}`;
      throw error;
    });
  const info = (callback?: Callback): Promise<string> => {
    const answered = askIfPermitted();
    if (callback === undefined) return answered.then(versionIn);
    callbackify(() => answered)(callback);
    return answered;
  };
  return Object.assign(client, { info });
}

type Callback = (error: Error | null, answer: string) => void;

function versionIn(info: string): string {
  const lines = info.split(/\r?\n/);
  return lines.filter((line) => /version:|^server:/.test(line)).join('\r\n');
}

/** What a Redis says about losing jobs; of a cluster, what its masters say. */
export async function readRedisDurability(client: Redis | Cluster): Promise<QueueDurability> {
  try {
    const nodes = 'nodes' in client ? await mastersOf(client) : [client];
    const answers = await Promise.all(nodes.map(readNode));
    const policies = answers.map((answer) => answer.get('maxmemory_policy'));
    if (policies.includes(undefined)) return { known: false, reason: 'its INFO names no maxmemory_policy' };
    return {
      known: true,
      evictionPolicy: policies.find((policy) => policy !== 'noeviction') ?? 'noeviction',
      survivesRestart: answers.every((answer) => answer.get('aof_enabled') !== '0'),
    };
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return { known: false, reason: error.message };
  }
}

/** The nodes are known once the cluster has answered. */
async function mastersOf(cluster: Cluster): Promise<Redis[]> {
  await cluster.ping();
  return cluster.nodes('master');
}

/** INFO works where CONFIG is disabled. Not by the command's name, which BullMQ is answered by. */
async function readNode(node: Redis | Cluster): Promise<Map<string, string>> {
  const sections = await Promise.all(['memory', 'persistence'].map((section) => node.call('INFO', section)));
  const lines = sections.join('\r\n').split(/\r?\n/);
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}

/** Whether Redis does not let its user ask, or has no such command under this name. */
function isRefusal(error: unknown): error is Error {
  return error instanceof Error && /^(NOPERM|ERR unknown command)/.test(error.message);
}
