import { chmod, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freePort } from '../../queues/redis-server.ts';
import { describeOnSshd, noAbort, useSshHost } from '../../support/ssh-host.ts';
import { asOrdinaryUser } from '../../support/requirements.ts';
import type { ConfigPart, SshHost } from '../../support/ssh-host.ts';
import { newKeyPair } from '../../ssh/keys.ts';
import { executeByShell, startScriptedServer } from '../../ssh/scripted-server.ts';
import { openEnvironment } from './ssh-fixture.ts';

const CHECKS = ['private key', 'connection', 'host key', 'authentication', 'shell', 'workspace', 'file transfer'];

async function probe(host: SshHost, part: ConfigPart = {}, signal = noAbort()) {
  const { driver, environment } = await openEnvironment(host, part);
  const report = await driver.probe(environment, { signal });
  const { checks } = report;
  return {
    ...report,
    names: checks.map(({ name }) => name),
    oks: checks.map(({ ok }) => ok),
    detail: checks.at(-1)!.detail,
  };
}

/** What a report looks like whose last check failed. */
function failedAt(name: string, said: string) {
  const names = CHECKS.slice(0, CHECKS.indexOf(name) + 1);
  const oks = names.map((check) => check !== name);
  return { names, oks, latencyMs: null, detail: expect.stringContaining(said) as string };
}

describeOnSshd('a probe of sshd', () => {
  const host = useSshHost();

  test('finds all there is to find, measures a round trip and leaves nothing behind', async () => {
    const root = await host().newWorkspace();
    const report = await probe(host(), { remoteWorkspacePath: root });
    expect(report.checks.filter(({ ok }) => !ok)).toEqual([]);
    expect(report.names).toEqual(CHECKS);
    expect(report.latencyMs).toBeGreaterThan(0);
    expect(report.latencyMs).toBeLessThan(1_000);
    expect(await readdir(root)).toEqual([]);
  });

  test('says what keeps it from the key', async () => {
    expect(await probe(host(), { privateKey: 'env:ABSENT_KEY' })).toMatchObject(
      failedAt('private key', 'environment variable ABSENT_KEY'),
    );
  });

  test('says that nobody listens', async () => {
    const port = await freePort();
    expect(await probe(host(), { port })).toMatchObject(
      failedAt('connection', `127.0.0.1:${port} cannot be reached: nobody listens`),
    );
  });

  test('says that the host key is another one', async () => {
    const knownHosts = `[127.0.0.1]:${host().server.port} ${newKeyPair().public}`;
    expect(await probe(host(), { knownHosts })).toMatchObject(failedAt('host key', 'SHA256:'));
  });

  test('says that the user is not let in', async () => {
    expect(await probe(host(), { username: 'nobody-of-this-name' })).toMatchObject(
      failedAt('authentication', 'authorized_keys'),
    );
  });

  test('says that the workspace is not there, or is a file', async () => {
    const root = await host().newWorkspace();
    const path = join(root, 'absent');
    expect(await probe(host(), { remoteWorkspacePath: path })).toMatchObject(
      failedAt('workspace', `${path} is no directory`),
    );
    await writeFile(path, '');
    expect(await probe(host(), { remoteWorkspacePath: path })).toMatchObject(
      failedAt('workspace', `${path} is no directory`),
    );
  });

  test.runIf(asOrdinaryUser.isMet)(`says that the workspace cannot be written to${asOrdinaryUser.note}`, async () => {
    const root = join(await host().newWorkspace(), 'closed');
    await mkdir(root, { mode: 0o500 });
    expect(await probe(host(), { remoteWorkspacePath: root })).toMatchObject(
      failedAt('workspace', 'cannot be written to'),
    );
    await chmod(root, 0o700);
    await rm(root, { recursive: true });
  });

  test('that is aborted says how far it came, and does not throw', async () => {
    const report = await probe(host(), {}, AbortSignal.abort(new Error('it took too long')));
    expect(report).toMatchObject(failedAt('connection', 'it took too long'));
  });
});

describeOnSshd('a probe of a server that lacks', () => {
  const host = useSshHost();

  test('commands says so', async () => {
    const port = await startScriptedServer(undefined);
    const report = await probe(host(), { port, strictHostKeyChecking: false });
    expect(report).toMatchObject(failedAt('shell', 'runs no commands'));
    expect(report.checks[2]!.detail).toContain('unchecked');
  });

  test('a shell says so', async () => {
    const port = await startScriptedServer((_command, channel) => {
      channel.stderr.write('This account is not available.\n');
      channel.exit(1);
      channel.end();
    });
    expect(await probe(host(), { port, strictHostKeyChecking: false })).toMatchObject(
      failedAt('shell', 'account is not available'),
    );
  });

  test('SFTP says so', async () => {
    const port = await startScriptedServer(executeByShell('/bin/sh'));
    expect(await probe(host(), { port, strictHostKeyChecking: false })).toMatchObject(
      failedAt('file transfer', 'Subsystem sftp'),
    );
  });
});
