import { randomBytes, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Redis } from 'ioredis';
import type { Sql } from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { sealSecret } from '../../src/secrets/sealing.ts';
import { spawnLessor } from '../commands/lessor.ts';
import type { LessorEnd } from '../commands/lessor.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { insertCompany, insertEnvironment } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import type { Backend } from '../support/queues.ts';
import { describeOnSshd, openSshHost } from '../support/ssh-host.ts';
import { until } from '../../testing/until.ts';

/** Adds a password, which this Postgres does not check, unless the URL has one. */
function withPassword(url: string, password: string): string {
  const parsed = new URL(url);
  parsed.password ||= password;
  return parsed.href;
}

describeOnEachBackend('secrets', (backend) => {
  const { database } = backend;

  describeOnSshd('on an SSH host', () => {
    test('secrets appear in no table, queue, log, message or remote process', async () => {
      const host = await openSshHost();
      const privateKey = await readFile(host.server.privateKeyPath, 'utf8');
      const secretKey = randomBytes(32).toString('hex');
      const variable = randomUUID();
      const password = randomUUID();
      const keyLines = privateKey.split('\n').filter((line) => line.length > 40);
      const planted = [...keyLines, secretKey, Buffer.from(secretKey, 'hex').toString('base64'), variable, password];
      const env = {
        ENABLE_ENVIRONMENTS: 'true',
        LESSOR_SECRET_KEY: secretKey,
        SSH_PRIVATE_KEY: privateKey,
        PLANTED_VARIABLE: variable,
        DATABASE_URL: withPassword(database.url, password),
        QUEUE_URL: backend.kind === 'postgres' ? withPassword(backend.queueUrl, password) : backend.queueUrl,
        QUEUE_PREFIX: backend.prefix,
      };

      const sealed = { ...host.config, privateKey: sealSecret(privateKey, secretKey) };
      const configs = {
        sealed,
        byVariable: { ...host.config, privateKey: 'env:SSH_PRIVATE_KEY' },
        wronglySealed: { ...host.config, privateKey: sealSecret(privateKey, randomBytes(32).toString('hex')) },
        // The variable holds no key: whatever is in it must not be repeated.
        noKey: { ...host.config, privateKey: 'env:PLANTED_VARIABLE' },
        wrongUser: { ...sealed, username: 'nobody-of-this-name' },
        unreachable: { ...sealed, port: 1 },
      };
      const worker = spawnWorker(
        { database: { url: env.DATABASE_URL }, queueUrl: env.QUEUE_URL, prefix: backend.prefix },
        [],
        {
          env: { ...env, LOG_LEVEL: 'trace' },
        },
      );
      await worker.untilLogged('worker started');
      const companyId = await insertCompany(database.sql);
      const execute = async (name: string, config: object, ...rest: string[]): Promise<LessorEnd> => {
        const row = { companyId, driver: 'ssh', name, config: { ...config } } as const;
        const environment = await insertEnvironment(database.sql, row);
        const args = ['run', '--company', companyId, '--environment', environment, '--lease-wait', '10s', ...rest];
        return spawnLessor(args, { env }).ended();
      };
      const printAll = [
        '--',
        'sh',
        '-c',
        'env; cat /proc/$$/environ /proc/$PPID/environ 2>/dev/null; cat ../commands/*',
      ];
      const row = { companyId, driver: 'ssh', name: 'no key, probed', config: configs.noKey } as const;
      const unusable = await insertEnvironment(database.sql, row);
      const ends = await Promise.all([
        execute('sealed', configs.sealed, ...printAll),
        execute('by variable', configs.byVariable, '--env', 'NAMED=given', ...printAll),
        execute('wrongly sealed', configs.wronglySealed, ...printAll),
        execute('no key', configs.noKey, ...printAll),
        execute('wrong user', configs.wrongUser, ...printAll),
        execute('unreachable', configs.unreachable, ...printAll),
        spawnLessor(
          [
            'environments',
            'create',
            '--company',
            companyId,
            '--name',
            'pasted',
            '--driver',
            'ssh',
            '--host',
            'h',
          ].concat(['--username', 'u', '--remote-workspace-path', '/w', '--private-key', privateKey]),
          { env },
        ).ended(),
        probeOf(env, unusable),
      ]);
      expect(ends.map(({ exit }) => exit)).toEqual([0, 0, 125, 125, 125, 125, 2, 1]);
      expect(ends[1].stdout).toContain('NAMED=given');
      await until(
        async () => {
          const live = await database.sql`
          select from lessor.environment_leases where status = 'active' and company_id = ${companyId}`;
          return live.length === 0;
        },
        { what: 'the end of every lease' },
      );
      worker.kill('SIGTERM');
      await worker.ended;

      const everything: Record<string, string> = {
        ...Object.fromEntries(
          ends.map(({ stdout, stderr }, number) => [`output of command ${number}`, stdout + stderr]),
        ),
        'log of the worker': worker.log(),
        ...(await tablesOf(database.sql)),
        ...(await keysOf(backend)),
      };
      // The search covers what it should: ids that must be everywhere are found.
      expect(everything['log of the worker']).toContain(companyId);
      expect(everything['table lessor.environments']).toContain('sealed:v1:');
      const queues = Object.entries(everything).filter(([name]) => /^(key|table bullmq)/.test(name));
      expect(queues.some(([, text]) => text.includes(companyId))).toBe(true);
      const leaks = Object.entries(everything).flatMap(([name, text]) =>
        planted.filter((secret) => text.includes(secret)).map((secret) => `${name}: ${secret.slice(0, 6)}…`),
      );
      expect(leaks).toEqual([]);
    });
  });
});

const probeOf = (env: Record<string, string>, id: string) =>
  spawnLessor(['environments', 'probe', id], { env }).ended();

/** Every row of every table, as text, by the name of its table. */
async function tablesOf(sql: Sql): Promise<Record<string, string>> {
  const tables = await sql<{ name: string }[]>`
    select format('%I.%I', table_schema, table_name) as name from information_schema.tables
    where table_schema in ('lessor', 'bullmq') and table_type = 'BASE TABLE'`;
  const contents: Record<string, string> = {};
  for (const { name } of tables) {
    const rows = await sql.unsafe<{ row: string }[]>(`select row_to_json(entry)::text as row from ${name} entry`);
    contents[`table ${name}`] = rows.map(({ row }) => row).join('\n');
  }
  return contents;
}

/** Every value in Redis under the prefix of the suite, as text, by its key; none where the queue is in Postgres. */
async function keysOf({ kind, queueUrl, prefix }: Backend): Promise<Record<string, string>> {
  if (kind === 'postgres') return {};
  const redis = new Redis(queueUrl);
  onTestFinished(() => redis.disconnect());
  const contents: Record<string, string> = {};
  for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1_000 }) as AsyncIterable<string[]>) {
    for (const key of keys) contents[`key ${key}`] = JSON.stringify(await valueOf(redis, key));
  }
  return contents;
}

async function valueOf(redis: Redis, key: string): Promise<unknown> {
  const type = await redis.type(key);
  switch (type) {
    case 'string':
      return redis.get(key);
    case 'hash':
      return redis.hgetall(key);
    case 'list':
      return redis.lrange(key, 0, -1);
    case 'set':
      return redis.smembers(key);
    case 'zset':
      return redis.zrange(key, '0', '-1');
    case 'stream':
      return redis.xrange(key, '-', '+');
    default:
      throw new Error(`a key of Redis is of the type ${type}, which is not searched`);
  }
}
