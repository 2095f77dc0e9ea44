import { Cluster, Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';

/** The options of ioredis that Lessor sets. */
export type ClientOptions = Partial<
  Pick<
    RedisOptions,
    | 'db'
    | 'username'
    | 'password'
    | 'tls'
    | 'maxRetriesPerRequest'
    | 'enableOfflineQueue'
    | 'retryStrategy'
    | 'lazyConnect'
    | 'connectionName'
    | 'socketTimeout'
  >
>;

/** A Redis as `QUEUE_URL` names it. */
export interface RedisTarget {
  kind: 'single' | 'sentinel' | 'cluster';
  /** For a cluster or sentinels, some of their nodes; the others are found from these. */
  nodes: readonly { host: string; port: number }[];
  /** The name by which sentinels know the master. */
  masterName: string | undefined;
  options: ClientOptions;
}

const DEFAULT_PORT = 6379;

/**
 * A command takes milliseconds, and those of BullMQ that wait for a job at most ten seconds. A connection that has kept
 * one waiting for longer than this is dead, which TCP may not notice for hours: it is made anew.
 */
const SOCKET_TIMEOUT_MS = 15_000;

/**
 * Reads a Redis URL:
 * - `redis://user:password@host:6379/0`, or `rediss://` for TLS
 * - `redis://host:6379?cluster=true&node=host2:6379` for a cluster
 * - `redis://sentinel:26379/0?sentinel=NAME&node=sentinel2:26379` for the master called NAME
 *
 * @throws {InvalidConfigurationError} that names what is wrong, never the URL, which can carry a password
 */
export function parseRedisUrl(url: URL): RedisTarget {
  const masterName = url.searchParams.get('sentinel') ?? undefined;
  const isCluster = url.searchParams.get('cluster') === 'true';
  if (isCluster && masterName !== undefined) {
    throw new InvalidConfigurationError('the queue URL names both a cluster and a sentinel; use one of the two');
  }
  const first = { host: url.hostname || '127.0.0.1', port: Number(url.port || DEFAULT_PORT) };
  return {
    kind: isCluster ? 'cluster' : masterName === undefined ? 'single' : 'sentinel',
    nodes: [first, ...url.searchParams.getAll('node').map(parseNode)],
    masterName,
    options: {
      db: parseDatabase(url.pathname),
      ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
      ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
      ...(url.protocol === 'rediss:' ? { tls: {} } : {}),
    },
  };
}

function parseNode(node: string): { host: string; port: number } {
  const match = /^(?<host>.+?):(?<port>\d+)$/.exec(node);
  if (match === null) throw new InvalidConfigurationError('a node of the queue URL is not of the form host:port');
  return { host: match.groups!['host']!, port: Number(match.groups!['port']) };
}

function parseDatabase(pathname: string): number {
  const text = pathname.replace(/^\//, '');
  if (!/^\d*$/.test(text)) throw new InvalidConfigurationError('the database in the queue URL must be a number');
  return Number(text);
}

/** Makes a client that connects when it is first used. It never gives up reconnecting. */
export function createRedisClient(target: RedisTarget, overrides: ClientOptions): Redis | Cluster {
  const options: ClientOptions = {
    ...target.options,
    retryStrategy: reconnectDelay,
    socketTimeout: SOCKET_TIMEOUT_MS,
    lazyConnect: true,
    ...overrides,
  };
  if (target.kind === 'cluster') {
    const { enableOfflineQueue, lazyConnect, ...redisOptions } = options;
    return new Cluster([...target.nodes], {
      redisOptions,
      clusterRetryStrategy: reconnectDelay,
      lazyConnect: lazyConnect ?? true,
      ...(enableOfflineQueue === undefined ? {} : { enableOfflineQueue }),
    });
  }
  if (target.kind === 'sentinel') {
    return new Redis({ ...options, sentinels: [...target.nodes], name: target.masterName! });
  }
  return new Redis({ ...options, ...target.nodes[0]! });
}

/** Milliseconds until the next try to reconnect. Losing the connection counts as a failure before the first one. */
function reconnectDelay(tries: number): number {
  return backoffDelay(tries + 1, RECONNECT_BACKOFF);
}
