import { describe, expect, test } from 'vitest';
import { InvalidConfigurationError } from '../../../src/contracts/index.ts';
import { parseRedisUrl } from '../../../src/queues/backends/redis-url.ts';
import type { RedisSettings } from '../../../src/queues/backends/redis-url.ts';
import { openQueues } from '../../../src/queues/queues.ts';

const PLAIN = { username: undefined, password: undefined, tls: undefined };
const TLS = { caFile: undefined, clientCertificate: undefined };

const open = (url: string) => openQueues(url, { role: 'consumer', onError: () => undefined });

describe('a Redis URL is parsed', () => {
  test.for<[url: string, settings: RedisSettings]>([
    [
      'redis://redis.internal:6380',
      { kind: 'single', node: { host: 'redis.internal', port: 6380 }, database: 0, access: PLAIN },
    ],
    ['redis://host', { kind: 'single', node: { host: 'host', port: 6379 }, database: 0, access: PLAIN }],
    ['redis://host/', { kind: 'single', node: { host: 'host', port: 6379 }, database: 0, access: PLAIN }],
    ['redis:///2', { kind: 'single', node: { host: '127.0.0.1', port: 6379 }, database: 2, access: PLAIN }],
    [
      'redis://host/15?cluster=false',
      { kind: 'single', node: { host: 'host', port: 6379 }, database: 15, access: PLAIN },
    ],
    ['redis://[::1]:7000/3', { kind: 'single', node: { host: '::1', port: 7000 }, database: 3, access: PLAIN }],
    [
      'redis://us%3Aer:p%40ss%2Fw%25rd+%23@host',
      {
        kind: 'single',
        node: { host: 'host', port: 6379 },
        database: 0,
        access: { username: 'us:er', password: 'p@ss/w%rd+#', tls: undefined },
      },
    ],
    [
      'redis://:secret@host',
      { kind: 'single', node: { host: 'host', port: 6379 }, database: 0, access: { ...PLAIN, password: 'secret' } },
    ],
    [
      'rediss://host',
      { kind: 'single', node: { host: 'host', port: 6379 }, database: 0, access: { ...PLAIN, tls: TLS } },
    ],
    [
      'rediss://host?cacert=/etc/ca%20one.pem&cert=/c.pem&key=/k.pem',
      {
        kind: 'single',
        node: { host: 'host', port: 6379 },
        database: 0,
        access: {
          ...PLAIN,
          tls: {
            caFile: '/etc/ca one.pem',
            clientCertificate: { certificateFile: '/c.pem', keyFile: '/k.pem' },
          },
        },
      },
    ],
    [
      'redis://a:7000?cluster=true&node=b:7001&node=[fd00::3]:7002',
      {
        kind: 'cluster',
        nodes: [
          { host: 'a', port: 7000 },
          { host: 'b', port: 7001 },
          { host: 'fd00::3', port: 7002 },
        ],
        access: PLAIN,
      },
    ],
    [
      'redis://:secret@s1:26379/2?sentinel=mymaster&node=s2:26380&sentinel_user=w&sentinel_password=a%26b+c',
      {
        kind: 'sentinel',
        sentinels: [
          { host: 's1', port: 26379 },
          { host: 's2', port: 26380 },
        ],
        sentinelAccess: { username: 'w', password: 'a&b+c', tls: undefined },
        masterName: 'mymaster',
        database: 2,
        access: { ...PLAIN, password: 'secret' },
      },
    ],
    [
      'rediss://s1:26379?sentinel=mymaster&cacert=/ca.pem',
      {
        kind: 'sentinel',
        sentinels: [{ host: 's1', port: 26379 }],
        sentinelAccess: { ...PLAIN, tls: { ...TLS, caFile: '/ca.pem' } },
        masterName: 'mymaster',
        database: 0,
        access: { ...PLAIN, tls: { ...TLS, caFile: '/ca.pem' } },
      },
    ],
    [
      'redis://s1:26379?sentinel=mymaster&sentinel_tls=true&sentinel_cacert=/s.pem',
      {
        kind: 'sentinel',
        sentinels: [{ host: 's1', port: 26379 }],
        sentinelAccess: { ...PLAIN, tls: { ...TLS, caFile: '/s.pem' } },
        masterName: 'mymaster',
        database: 0,
        access: PLAIN,
      },
    ],
  ])('%s', ([url, settings]) => {
    expect(parseRedisUrl(url)).toEqual(settings);
  });
});

describe('a queue URL is rejected by name, and its secret never shown', () => {
  test.for([
    ['a database that is no number', 'redis://user:secret@host/zero', 'database'],
    ['a port out of range', 'redis://user:secret@host:0', 'port'],
    ['a node without a port', 'redis://user:secret@host?cluster=true&node=other', 'host:port'],
    ['both a cluster and a sentinel', 'redis://user:secret@host?cluster=true&sentinel=main', 'both'],
    ['a database of a cluster', 'redis://user:secret@host/1?cluster=true', 'only database 0'],
    ['a node of a single Redis', 'redis://user:secret@host?node=b:1', 'names a node'],
    ['an unknown parameter', 'redis://user:secret@host?tls=true', 'not understood: tls.'],
    ['a password with a literal ?', 'redis://user:1?secret@host', 'not understood: (not a name)'],
    ['a password with a literal #', 'redis://user:1#secret@host', 'percent-encode'],
    ['a password with a literal /', 'redis://user:secret/x@host', 'not a URL'],
    ['a malformed percent sequence in the user', 'redis://us%zz:secret@host', 'user that is not percent-encoded'],
    [
      'a malformed percent sequence in the password',
      'redis://user:secret%@host',
      'password that is not percent-encoded',
    ],
    ['a malformed percent sequence in a parameter', 'redis://:secret@host?sentinel=%e0', 'sentinel that is not'],
    ['a parameter given twice', 'redis://:secret@host?sentinel=a&sentinel=b', 'sentinel twice'],
    ['a parameter without a value', 'redis://:secret@host?sentinel=', 'no value to sentinel'],
    ['a boolean that is none', 'redis://:secret@host?cluster=yes', 'neither true nor false'],
    ['a user without a password', 'redis://secret@host', 'user without a password'],
    ['a sentinel password without a sentinel', 'redis://host?sentinel_password=secret', 'sentinel_password without'],
    ['a CA without TLS', 'redis://:secret@host?cacert=/ca.pem', 'cacert, which needs rediss://'],
    ['a certificate without its key', 'rediss://:secret@host?cert=/c.pem', 'only one of cert and key'],
    ['a CA file that is missing', 'rediss://:secret@host?cacert=/none/ca.pem', 'cacert of the queue URL'],
    ['another scheme', 'amqp://user:secret@host', 'redis://, rediss:// or postgres://'],
    ['no scheme', '//user:secret@host', 'redis://, rediss:// or postgres://'],
    ['nothing', '', 'redis://, rediss:// or postgres://'],
    ['a malformed percent sequence, on Postgres', 'postgres://user:secret%@host/x', 'the queue URL'],
    ['an unknown parameter, on Postgres', 'postgres://user:secret@host/x?foo=1', 'foo'],
  ] as const)('%s', ([, url, reason]) => {
    expect(() => open(url)).toThrow(InvalidConfigurationError);
    expect(() => open(url)).toThrow(reason);
    expect(() => open(url)).not.toThrow(/secret(?!_)/);
  });
});

describe('opening queues connects to nothing', () => {
  test.for([
    ['redis://127.0.0.1:1', 'redis'],
    ['rediss://127.0.0.1:1', 'redis'],
    ['postgres://127.0.0.1:1/x', 'postgres'],
    ['postgresql://127.0.0.1:1/x', 'postgres'],
  ] as const)('%s is on %s', async ([url, kind]) => {
    const errors: Error[] = [];
    const queues = openQueues(url, { role: 'producer', onError: (error) => errors.push(error) });
    expect(queues.kind).toBe(kind);
    await queues.close();
    expect(errors).toEqual([]);
  });
});
