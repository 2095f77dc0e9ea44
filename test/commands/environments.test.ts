import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment } from '../support/factories.ts';
import { describeOnSshd, openSshHost } from '../support/ssh-host.ts';
import type { SshHost } from '../support/ssh-host.ts';
import { lessor } from './lessor.ts';

const database = useDatabase();
const SECRET_KEY = randomBytes(32).toString('base64');
const PASTED_KEY = '-----BEGIN OPENSSH PRIVATE KEY-----\nc3VwZXItc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n';

/** Required of every SSH environment. */
const SSH_FLAGS = ['--host', 'build-1', '--username', 'agent', '--remote-workspace-path', '/srv/work'];
const UNCHECKED = '--no-strict-host-key-checking';

let companyId: string;
beforeAll(async () => {
  companyId = await insertCompany(database.sql);
});

const run = (args: readonly string[], env: Record<string, string> = {}) =>
  lessor(['environments', ...args], { env: { DATABASE_URL: database.url, USER: 'olga', LOGNAME: 'olga', ...env } });

const create = (...args: string[]) => run(['create', '--company', companyId, '--name', 'Builder', ...args]);

/** Runs a command that must succeed, and returns the environment it prints. */
async function environmentOf(end: ReturnType<typeof run>): Promise<Record<string, unknown> & { id: string }> {
  const { exit, stdout, stderr } = await end;
  expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
  return JSON.parse(stdout) as Record<string, unknown> & { id: string };
}

const newEnvironment = () =>
  environmentOf(create('--driver', 'ssh', ...SSH_FLAGS, '--private-key', 'env:KEY', UNCHECKED, '--json'));

/** The activity events of an environment, and their actors. */
const eventsOf = (id: string) =>
  database.sql<{ action: string; actor_type: string; actor_id: string }[]>`
    select action, actor_type, actor_id from lessor.activity_log where entity_id = ${id} order by id`;

async function scratchFile(content: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-environments-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'file'), content);
  return join(directory, 'file');
}

describe('`lessor environments create`', () => {
  test('creates an SSH environment from flags, and records who did', async () => {
    const known = `build-1 ssh-ed25519 ${ED25519}\n`;
    const flags = [...SSH_FLAGS, '--port', '2222', '--private-key', 'env:BUILD_KEY', '--workspace-mode', 'in_place'];
    const knownHosts = ['--known-hosts', await scratchFile(known)];
    const { exit, stdout, stderr } = await create('--driver', 'ssh', ...flags, ...knownHosts);
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    const [, id] = /^created environment (\S+): Builder \(ssh\)\n$/.exec(stdout)!;
    const [row] = await database.sql`select company_id, driver, config from lessor.environments where id = ${id!}`;
    expect(row).toEqual({
      company_id: companyId,
      driver: 'ssh',
      config: {
        host: 'build-1',
        port: 2222,
        username: 'agent',
        remoteWorkspacePath: '/srv/work',
        privateKey: 'env:BUILD_KEY',
        knownHosts: known,
        strictHostKeyChecking: true,
        workspaceMode: 'in_place',
      },
    });
    expect(await eventsOf(id!)).toEqual([{ action: 'environment.created', actor_type: 'user', actor_id: 'olga' }]);
  });

  test('reads the config from JSON or a file, which flags override', async () => {
    const config = { host: 'a', username: 'b', remoteWorkspacePath: '/c', privateKey: 'env:K', port: null };
    const text = JSON.stringify(config);
    for (const given of [text, `@${await scratchFile(text)}`]) {
      const made = await environmentOf(
        create('--driver', 'ssh', '--config', given, '--host', 'flagged', UNCHECKED, '--json'),
      );
      expect(made['config']).toMatchObject({ ...config, host: 'flagged', port: 22, strictHostKeyChecking: false });
    }
  });

  test('creates environments of other drivers, with the config given', async () => {
    const made = await environmentOf(create('--driver', 'sandbox', '--config', '{"root": "/boxes"}', '--json'));
    expect(made).toMatchObject({ companyId, driver: 'sandbox', config: { root: '/boxes' } });
  });

  describeOnSshd('on an SSH host', () => {
    test('seals a private key from a file, so that only LESSOR_SECRET_KEY opens it', async () => {
      const host = await openSshHost();
      const keyPath = host.server.privateKeyPath;
      const flags = ['create', '--company', companyId, '--name', 'Sealed', '--driver', 'ssh', ...SSH_FLAGS, UNCHECKED];
      const made = await environmentOf(
        run([...flags, '--seal-private-key', keyPath, '--json'], { LESSOR_SECRET_KEY: SECRET_KEY }),
      );
      const { privateKey } = made['config'] as { privateKey: string };
      expect(privateKey).toMatch(/^sealed:v1:/);
      const clear = await readFile(keyPath, 'utf8');
      expect(await createSecretResolver({ env: {}, secretKey: SECRET_KEY }).resolve(privateKey)).toBe(clear);

      const withoutKey = await run([...flags, '--seal-private-key', keyPath]);
      expect(withoutKey).toMatchObject({ exit: 2, stdout: '' });
      expect(withoutKey.stderr).toContain('needs LESSOR_SECRET_KEY');
      const noKey = await scratchFile('Dear diary');
      const sealingNone = await run([...flags, '--seal-private-key', noKey], { LESSOR_SECRET_KEY: SECRET_KEY });
      expect(sealingNone).toMatchObject({ exit: 1, stdout: '' });
      expect(sealingNone.stderr).toContain(`the file ${noKey} holds is not a private key`);
      expect(sealingNone.stderr).not.toContain('diary');
    });
  });

  test('names each invalid field', async () => {
    const flags = ['--host', 'build 1', '--remote-workspace-path', 'work', '--private-key', 'env:KEY'];
    const { exit, stdout, stderr } = await create('--driver', 'ssh', ...flags);
    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    for (const field of ['host', 'username', 'remoteWorkspacePath']) expect(stderr).toContain(`→ at ${field}\n`);
    expect(stderr).not.toContain('    at ');
  });

  test.for<[what: string, args: string[]]>([
    ['as a reference', ['--private-key', PASTED_KEY]],
    ['into the config', ['--config', JSON.stringify({ privateKey: PASTED_KEY })]],
    ['into invalid JSON', ['--config', `{"privateKey": "${PASTED_KEY}"}`]],
    ['as the config', ['--config', PASTED_KEY]],
    ['as the name of a file', ['--config', `@${PASTED_KEY.split('\n')[1]}`, '--private-key', PASTED_KEY]],
  ])('never shows a private key that is pasted %s', async ([, args]) => {
    const { exit, stdout, stderr } = await create('--driver', 'ssh', ...SSH_FLAGS, UNCHECKED, ...args);
    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(/^error: /);
    expect(stderr).not.toContain('BEGIN');
  });

  test.for<[what: string, args: string[], expected: string]>([
    ['a config that is not an object', ['--driver', 'ssh', '--config', '[]'], '--config is not a JSON object'],
    ['a config file that does not exist', ['--driver', 'ssh', '--config', '@/nowhere'], 'ENOENT'],
    ['a known hosts file that does not exist', ['--driver', 'ssh', '--known-hosts', '/nowhere'], 'ENOENT'],
    ['flags of another driver', ['--driver', 'plugin', '--host', 'a'], 'only the driver ssh'],
    ['two private keys', ['--driver', 'ssh', '--private-key', 'env:A', '--seal-private-key', 'b'], 'cannot be used'],
    ['no driver', [], '--driver'],
  ])('exits with 2 for %s', async ([, args, expected]) => {
    const { exit, stdout, stderr } = await create(...args);
    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toContain(expected);
  });
});

describe('`lessor environments update`', () => {
  test('changes the given fields, and no others', async () => {
    const { id, config: before } = await newEnvironment();
    const updated = await environmentOf(
      run(['update', id, '--port', '2022', '--private-key', 'file:/keys/build', '--description', 'fast', '--json']),
    );
    expect(updated).toMatchObject({ id, name: 'Builder', description: 'fast' });
    expect(updated['config']).toEqual({ ...(before as object), port: 2022, privateKey: 'file:/keys/build' });

    const renamed = await environmentOf(run(['update', id.toUpperCase(), '--name', 'Forge', '--json']));
    expect(renamed).toMatchObject({ name: 'Forge', description: 'fast', config: updated['config'] });
    expect((await eventsOf(id)).map(({ action }) => action)).toEqual([
      'environment.created',
      'environment.updated',
      'environment.updated',
    ]);
  });

  test('sets fields of the config from JSON, removes those that are null, and validates the result', async () => {
    const { id } = await newEnvironment();
    const known = { knownHosts: `build-1 ssh-ed25519 ${ED25519}`, strictHostKeyChecking: true };
    const strict = await environmentOf(run(['update', id, '--config', JSON.stringify(known), '--json']));
    expect(strict['config']).toMatchObject({ ...known, host: 'build-1' });

    const { exit, stderr } = await run(['update', id, '--config', '{"knownHosts": null}']);
    expect(exit).toBe(2);
    expect(stderr).toContain('→ at knownHosts');
    const lax = await environmentOf(run(['update', id, '--config', '{"knownHosts": null}', UNCHECKED, '--json']));
    expect(lax['config']).not.toHaveProperty('knownHosts');
    const strictAgain = await run(['update', id, '--strict-host-key-checking']);
    expect(strictAgain.stderr).toContain('→ at knownHosts');
  });

  test('rejects an unknown environment, and a call that changes nothing', async () => {
    const id = randomUUID();
    const unknown = await run(['update', id, '--name', 'Forge']);
    expect(unknown).toEqual({ exit: 1, stdout: '', stderr: `error: there is no environment ${id}\n` });
    const nothing = await run(['update', id]);
    expect(nothing).toMatchObject({ exit: 2, stdout: '' });
    expect(nothing.stderr).toContain('nothing to update');
  });
});

test('`lessor environments archive` archives an environment once', async () => {
  const { id } = await newEnvironment();
  expect(await run(['archive', id])).toEqual({
    exit: 0,
    stdout: `archived environment ${id}: Builder (ssh)\n`,
    stderr: '',
  });
  expect(await environmentOf(run(['archive', id, '--json']))).toMatchObject({ id, status: 'archived' });
  expect((await eventsOf(id)).map(({ action }) => action)).toEqual(['environment.created', 'environment.archived']);
  const unknown = randomUUID();
  expect(await run(['archive', unknown])).toMatchObject({
    exit: 1,
    stderr: `error: there is no environment ${unknown}\n`,
  });
});

const onHost = ({ config }: SshHost, changes: Record<string, unknown> = {}) =>
  insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'host', config: { ...config, ...changes } });

describeOnSshd('`lessor environments probe` of a host', () => {
  test('shows every check and the latency, and exits with 0', async () => {
    const id = await onHost(await openSshHost());
    const { exit, stdout, stderr } = await run(['probe', id]);
    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    for (const name of ['private key', 'connection', 'host key', 'authentication', 'shell', 'workspace']) {
      expect(stdout).toMatch(new RegExp(`│ ${name} +│ ok +│`));
    }
    expect(stdout).toMatch(/\nOne round trip takes \d+\.\d ms\.\n$/);

    const json = await run(['probe', id, '--json']);
    expect(json).toMatchObject({ exit: 0, stderr: '' });
    const report = JSON.parse(json.stdout) as { checks: { ok: boolean }[] };
    expect(report).toMatchObject({ environmentId: id, ok: true, latencyMs: expect.any(Number) as unknown });
    expect(report.checks.every(({ ok }) => ok)).toBe(true);
  });

  test('exits with 1 and names the failed check, with both fingerprints for a host key', async () => {
    const host = await openSshHost();
    const id = await onHost(host);
    await host.server.changeHostKey();
    const { exit, stdout, stderr } = await run(['probe', id]);
    expect({ exit, stderr }).toEqual({ exit: 1, stderr: '' });
    expect(stdout).toMatch(/│ host key +│ failed +│ .*SHA256:.*SHA256:/);
    expect(stdout).not.toContain('round trip');

    const nowhere = await onHost(host, { remoteWorkspacePath: '/nowhere', knownHosts: host.server.knownHosts });
    const json = await run(['probe', nowhere, '--json']);
    expect(json.exit).toBe(1);
    const { checks } = JSON.parse(json.stdout) as { checks: { name: string; ok: boolean }[] };
    expect(checks.filter(({ ok }) => !ok).map(({ name }) => name)).toEqual(['workspace']);
  });
});

test('`lessor environments probe` rejects a driver that it cannot probe, and reports an invalid config', async () => {
  const local = await insertEnvironment(database.sql, { companyId });
  const rejected = await run(['probe', local]);
  expect(rejected).toMatchObject({ exit: 1, stdout: '' });
  expect(rejected.stderr).toContain('is of the kind local; only ssh can be probed here');
  const unknown = randomUUID();
  expect((await run(['probe', unknown])).stderr).toBe(`error: there is no environment ${unknown}\n`);

  const config = { privateKey: PASTED_KEY };
  const old = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'old', config });
  const reported = await run(['probe', old]);
  expect(reported).toMatchObject({ exit: 1, stderr: '' });
  expect(reported.stdout).toMatch(/│ config +│ failed +│ host: /);
  expect(reported.stdout).not.toContain('BEGIN');
});

/** A public key of no host. */
const ED25519 = 'AAAAC3NzaC1lZDI1NTE5AAAAIFjDhfZpGFjXTYwsIB7XhzWGuwFyGYs95LDvKxGJ0Xmp';
