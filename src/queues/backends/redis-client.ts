import type { ConnectionOptions } from 'node:tls';
import { Cluster, Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';
import { RECONNECT_BACKOFF, backoffDelay } from '../../lib/backoff.ts';
import { readPem } from '../../lib/url-parameters.ts';
import type { RedisAccess, RedisSettings, RedisTls } from './redis-url.ts';

/** How a client behaves while Redis is unreachable, and the name that `CLIENT LIST` shows. */
export type ClientOptions = Partial<
  Pick<RedisOptions, 'maxRetriesPerRequest' | 'enableOfflineQueue' | 'lazyConnect' | 'connectionName'>
>;

/**
 * A command takes milliseconds, and BullMQ's blocking ones at most 10 s. A connection without an answer for longer is
 * dead, which TCP may not notice for hours; it is replaced.
 */
const SOCKET_TIMEOUT_MS = 15_000;

/**
 * Reads the files that the settings name and returns what makes clients. A client connects when it is first used, and
 * reconnects indefinitely.
 * @throws {InvalidConfigurationError} when a file cannot be read
 */
export function redisClients(settings: RedisSettings): (options: ClientOptions) => Redis | Cluster {
  const access = toAccessOptions(settings.access);
  const common = { ...access, retryStrategy: reconnectDelay, socketTimeout: SOCKET_TIMEOUT_MS, lazyConnect: true };
  if (settings.kind === 'single') {
    const { node, database } = settings;
    return (options) => new Redis({ ...common, ...options, ...node, db: database });
  }
  if (settings.kind === 'sentinel') {
    const sentinel = toAccessOptions(settings.sentinelAccess);
    const withSentinels = {
      ...common,
      db: settings.database,
      name: settings.masterName,
      sentinels: [...settings.sentinels],
      enableTLSForSentinelMode: access.tls !== undefined,
      ...(sentinel.username === undefined ? {} : { sentinelUsername: sentinel.username }),
      ...(sentinel.password === undefined ? {} : { sentinelPassword: sentinel.password }),
      ...(sentinel.tls === undefined ? {} : { sentinelTLS: sentinel.tls }),
    };
    return (options) => new Redis({ ...withSentinels, ...options });
  }
  return (options) => {
    const { enableOfflineQueue, lazyConnect, ...redisOptions } = { ...common, ...options };
    return new Cluster([...settings.nodes], {
      redisOptions,
      clusterRetryStrategy: reconnectDelay,
      lazyConnect,
      ...(enableOfflineQueue === undefined ? {} : { enableOfflineQueue }),
      // ioredis would connect to the address that a name resolves to, for which a certificate is seldom valid.
      ...(access.tls === undefined ? {} : { dnsLookup: (host, callback) => callback(null, host) }),
    });
  };
}

interface AccessOptions {
  username?: string;
  password?: string;
  tls?: ConnectionOptions;
}

function toAccessOptions({ username, password, tls }: RedisAccess): AccessOptions {
  return {
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls: toTlsOptions(tls) }),
  };
}

function toTlsOptions({ caFile, clientCertificate }: RedisTls): ConnectionOptions {
  return {
    ...(caFile === undefined ? {} : { ca: readPem(caFile, 'cacert of the queue URL') }),
    ...(clientCertificate === undefined
      ? {}
      : {
          cert: readPem(clientCertificate.certificateFile, 'cert of the queue URL'),
          key: readPem(clientCertificate.keyFile, 'key of the queue URL'),
        }),
  };
}

/** Losing the connection counts as a failure before the first attempt to reconnect. */
function reconnectDelay(attempts: number): number {
  return backoffDelay(attempts + 1, RECONNECT_BACKOFF);
}
