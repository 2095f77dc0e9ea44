import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { rm, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { generateKeyPair } from '../../../src/embedded/ssh-server/keys.ts';
import { openSshServer, type SshServer, type SshServerKind } from '../../../src/embedded/ssh-server/index.ts';
import { until } from '../../../testing/until.ts';
import {
  alive,
  connect,
  connectForTest,
  disconnected,
  descendants,
  execute,
  isRunning,
  kinds,
} from './ssh-server-fixture.ts';
import { makeDirectory, open, run } from './ssh-server-fixture.ts';

describe.each(kinds)('an SSH server of the kind %s', (kind) => {
  test('lets in its user by its key, which only its owner can read, and shows the host key it says', async () => {
    const server = await open(kind);
    expect(server).toMatchObject({ kind, host: '127.0.0.1' });
    expect((await stat(server.privateKeyPath)).mode & 0o777).toBe(0o600);
    expect(server.knownHosts).toBe(`[127.0.0.1]:${server.port} ssh-ed25519 ${await hostKeyOf(server)}\n`);
    const result = await run(await connectForTest(server), 'id -un');
    expect(result.stdout.toString()).toBe(`${server.username}\n`);
  });

  test('refuses another key, another user, passwords and nothing at all', async () => {
    const server = await open(kind);
    const { private: privateKey } = generateKeyPair();
    const refused = /All configured authentication methods failed/;
    await expect(connect(server, { privateKey })).rejects.toThrow(refused);
    await expect(connect(server, { username: `not-${server.username}` })).rejects.toThrow(refused);
    await expect(connect(server, { authHandler: ['none'] })).rejects.toThrow(refused);
    await expect(connect(server, { authHandler: ['password'], password: 'x' })).rejects.toThrow(refused);
    const asking = { authHandler: ['keyboard-interactive' as const], tryKeyboard: true };
    await expect(connect(server, asking)).rejects.toThrow(refused);
  });

  test('when stopped cuts its clients and refuses others, and keeps port and host key for its next start', async () => {
    const server = await open(kind);
    const { port, knownHosts } = server;
    const client = await connectForTest(server);
    const closed = disconnected(client);
    await server.stop();
    await closed;
    await expect(connect(server)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await server.stop();
    await server.start();
    await server.start();
    expect(server).toMatchObject({ port, knownHosts });
    expect(server.knownHosts).toContain(await hostKeyOf(server));
  });

  test('can be given another host key, which those meet who connect again', async () => {
    const server = await open(kind);
    const { knownHosts } = server;
    const client = await connectForTest(server);
    const closed = disconnected(client);
    await server.changeHostKey();
    await closed;
    expect(server.knownHosts).not.toBe(knownHosts);
    expect(server.knownHosts).toContain(await hostKeyOf(server));
    await server.stop();
    await server.changeHostKey();
    await server.start();
    expect(server.knownHosts).toContain(await hostKeyOf(server));
  });

  test('when closed leaves no process behind but daemons, however often, and cannot be started again', async () => {
    const before = new Set(descendants(process.pid));
    const server = await open(kind);
    const client = await connect(server);
    const { stdout } = await run(client, 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!');
    const daemon = Number(stdout.toString());
    onTestFinished(() => void process.kill(daemon, 'SIGKILL'));
    const mark = await startMarked(client);
    const started = descendants(process.pid).filter((pid) => !before.has(pid) && pid !== daemon);
    expect(started).not.toEqual([]);
    await Promise.all([server.close(), server.close()]);
    await until(() => alive(started).length === 0 && !isRunning(mark), { what: 'the end of all it started' });
    expect(alive([daemon])).toEqual([daemon]);
    await expect(server.start()).rejects.toMatchObject({ code: 'server_closed' });
    await expect(connect(server)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('leaves no process behind when its owner is killed', async () => {
    const { owner, server } = await startOwner(kind);
    const client = await connect(server);
    const closed = disconnected(client);
    const mark = await startMarked(client);
    const started = descendants(owner);
    expect(started.length).toBeGreaterThanOrEqual(2);
    process.kill(owner, 'SIGKILL');
    await closed;
    await until(() => alive(started).length === 0 && !isRunning(mark), { what: 'the end of all it started' });
  });
});

test('without a kind, sshd is taken where it is installed', async () => {
  const directory = await makeDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  const server = await openSshServer({ directory });
  onTestFinished(() => server.close());
  expect(server.kind).toBe(kinds[0]);
});

test('a directory that cannot be written to is refused by name', async () => {
  const directory = `/nowhere/${randomUUID()}`;
  const refused = openSshServer({ directory });
  await expect(refused).rejects.toMatchObject({ name: 'SshServerError', code: 'directory_unusable' });
  await expect(refused).rejects.toThrow(directory);
});

/** Starts a command that runs until it is hung up, and resolves to words that its line can be found by. */
async function startMarked(client: Awaited<ReturnType<typeof connect>>): Promise<string> {
  const mark = randomUUID();
  const channel = await execute(client, `echo started; sleep 600; : ${mark}`);
  await once(channel, 'data');
  expect(isRunning(mark)).toBe(true);
  return mark;
}

/** The host key as it comes over the wire, in the letters of known_hosts. */
async function hostKeyOf(server: SshServer): Promise<string> {
  let shown = '';
  const client = await connect(server, {
    hostVerifier: (key: Buffer) => {
      shown = key.toString('base64');
      return true;
    },
  });
  client.end();
  return shown;
}

async function startOwner(kind: SshServerKind): Promise<{ owner: number; server: SshServer }> {
  const directory = await makeDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  const script = fileURLToPath(new URL('owner.ts', import.meta.url));
  const owner = spawn(process.execPath, ['--import', 'tsx', script, kind, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void owner.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: owner.stdout }), 'line')) as [string];
  return { owner: owner.pid!, server: JSON.parse(line) as SshServer };
}
