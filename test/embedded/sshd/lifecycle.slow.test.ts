import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { openEphemeralSshd } from '../../../src/embedded/sshd/ephemeral-sshd.ts';
import type { EphemeralSshd } from '../../../src/embedded/sshd/ephemeral-sshd.ts';
import { generateKeyPair } from '../../../src/embedded/sshd/keys.ts';
import { until } from '../../../testing/until.ts';
import { describeOnSshd } from '../../support/ssh-host.ts';
import {
  alive,
  connect,
  connectForTest,
  descendants,
  disconnected,
  execute,
  isRunning,
  makeDirectory,
  open,
  run,
} from './fixture.ts';

describeOnSshd('an ephemeral sshd', () => {
  test('accepts its user by its key, which only the user can read, and shows the host key that it names', async () => {
    const server = await open();
    expect(server).toMatchObject({ host: '127.0.0.1' });
    expect((await stat(server.privateKeyPath)).mode & 0o777).toBe(0o600);
    expect(server.knownHosts).toBe(`[127.0.0.1]:${server.port} ssh-ed25519 ${await hostKeyOf(server)}\n`);
    const result = await run(await connectForTest(server), 'id -un');
    expect(result.stdout.toString()).toBe(`${server.username}\n`);
  });

  test('rejects another key, another user, passwords and no authentication', async () => {
    const server = await open();
    const { private: privateKey } = generateKeyPair();
    const rejected = /All configured authentication methods failed/;
    await expect(connect(server, { privateKey })).rejects.toThrow(rejected);
    await expect(connect(server, { username: `not-${server.username}` })).rejects.toThrow(rejected);
    await expect(connect(server, { authHandler: ['none'] })).rejects.toThrow(rejected);
    await expect(connect(server, { authHandler: ['password'], password: 'x' })).rejects.toThrow(rejected);
    const asking = { authHandler: ['keyboard-interactive' as const], tryKeyboard: true };
    await expect(connect(server, asking)).rejects.toThrow(rejected);
  });

  test('when stopped destroys its connections and accepts none, and keeps port and host key for its next start', async () => {
    const server = await open();
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

  test('can be given another host key, which is shown to clients that connect again', async () => {
    const server = await open();
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

  test('when closed leaves no process but daemons, closes once, and cannot be started again', async () => {
    const before = new Set(descendants(process.pid));
    const server = await open();
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

  test('leaves no process when its parent is killed', async () => {
    const { parent, server } = await startParent();
    const client = await connect(server);
    const closed = disconnected(client);
    const mark = await startMarked(client);
    const started = descendants(parent);
    expect(started.length).toBeGreaterThanOrEqual(2);
    process.kill(parent, 'SIGKILL');
    await closed;
    await until(() => alive(started).length === 0 && !isRunning(mark), { what: 'the end of all it started' });
  });
});

test('an ephemeral sshd rejects a directory that cannot be written to, and names it', async () => {
  const directory = `/nowhere/${randomUUID()}`;
  const rejected = openEphemeralSshd({ directory });
  await expect(rejected).rejects.toMatchObject({ name: 'SshdError', code: 'directory_unusable' });
  await expect(rejected).rejects.toThrow(directory);
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
async function hostKeyOf(server: EphemeralSshd): Promise<string> {
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

async function startParent(): Promise<{ parent: number; server: EphemeralSshd }> {
  const directory = await makeDirectory();
  const script = fileURLToPath(new URL('parent.ts', import.meta.url));
  const parent = spawn(process.execPath, ['--import', 'tsx', script, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void parent.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string];
  return { parent: parent.pid!, server: JSON.parse(line) as EphemeralSshd };
}
