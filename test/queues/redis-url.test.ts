import { describe, expect, test } from 'vitest';
import { InvalidConfigurationError } from '../../src/contracts/index.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { parseRedisUrl } from '../../src/queues/redis-url.ts';

const parsed = (url: string) => parseRedisUrl(new URL(url));

const open = (url: string) => openQueues(url, { role: 'consumer', onError: () => undefined });

describe('a Redis URL', () => {
  test('names one server', () => {
    expect(parsed('redis://redis.internal:6380')).toEqual({
      kind: 'single',
      nodes: [{ host: 'redis.internal', port: 6380 }],
      masterName: undefined,
      options: { db: 0 },
    });
  });

  test('without a port means 6379', () => {
    expect(parsed('redis://redis.internal').nodes).toEqual([{ host: 'redis.internal', port: 6379 }]);
  });

  test('that starts with rediss:// means TLS', () => {
    expect(parsed('rediss://redis.internal').options).toEqual({ db: 0, tls: {} });
  });

  test('carries credentials, which are decoded', () => {
    expect(parsed('redis://us%3Aer:p%40ss%2Fword@host').options).toEqual({
      db: 0,
      username: 'us:er',
      password: 'p@ss/word',
    });
    expect(parsed('redis://:secret@host').options).toEqual({ db: 0, password: 'secret' });
  });

  test.for([
    ['redis://host', 0],
    ['redis://host/', 0],
    ['redis://host/3', 3],
    ['redis://host/15?cluster=false', 15],
  ] as const)('%s selects database %i', ([url, db]) => {
    expect(parsed(url).options.db).toBe(db);
  });

  test('names a cluster by some of its nodes', () => {
    expect(parsed('redis://a:7000?cluster=true&node=b:7001&node=10.0.0.3:7002')).toMatchObject({
      kind: 'cluster',
      nodes: [
        { host: 'a', port: 7000 },
        { host: 'b', port: 7001 },
        { host: '10.0.0.3', port: 7002 },
      ],
    });
  });

  test('names the master that sentinels watch', () => {
    expect(parsed('redis://:secret@s1:26379/2?sentinel=mymaster&node=s2:26380')).toEqual({
      kind: 'sentinel',
      nodes: [
        { host: 's1', port: 26379 },
        { host: 's2', port: 26380 },
      ],
      masterName: 'mymaster',
      options: { db: 2, password: 'secret' },
    });
  });
});

describe('a wrong queue URL', () => {
  test.for([
    ['a database that is no number', 'redis://user:secret@host/zero', 'database'],
    ['a node without a port', 'redis://user:secret@host?cluster=true&node=other', 'host:port'],
    ['both a cluster and a sentinel', 'redis://user:secret@host?cluster=true&sentinel=main', 'both'],
    ['another scheme', 'amqp://user:secret@host', 'redis://, rediss:// or postgres://'],
    ['no scheme', '//user:secret@host', 'not a URL'],
    ['nothing', '', 'not a URL'],
  ] as const)('with %s is refused with what is wrong, and never shown', ([, url, reason]) => {
    expect(() => open(url)).toThrow(InvalidConfigurationError);
    expect(() => open(url)).toThrow(reason);
    expect(() => open(url)).not.toThrow(/secret/);
  });
});

describe('queues', () => {
  test.for([
    ['redis://127.0.0.1:1', 'redis'],
    ['rediss://127.0.0.1:1', 'redis'],
    ['postgres://127.0.0.1:1/x', 'postgres'],
    ['postgresql://127.0.0.1:1/x', 'postgres'],
  ] as const)('of %s are on %s, and opening them connects to nothing', async ([url, kind]) => {
    const errors: Error[] = [];
    const queues = openQueues(url, { role: 'producer', onError: (error) => errors.push(error) });
    expect(queues.kind).toBe(kind);
    await queues.close();
    expect(errors).toEqual([]);
  });
});
