import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { ConnectOptions } from '../../src/ssh/connection.ts';
import { SshConnection } from '../../src/ssh/connection.ts';
import { fingerprintOf } from '../../src/ssh/known-hosts.ts';
import { until } from '../../testing/until.ts';
import { failureOf } from './failures.ts';
import { describeOnSshd, noAbort, secrets, useSshHost } from '../support/ssh-host.ts';
import type { ConfigPart } from '../support/ssh-host.ts';
import { newKeyPair, newProtectedKey } from './keys.ts';

const newPublicKey = () => newKeyPair().public;
const fingerprintOfLine = (line: string) => fingerprintOf(Buffer.from(line.trim().split(/\s+/).at(-1)!, 'base64'));

describeOnSshd('on sshd', () => {
  const host = useSshHost();

  async function connect(part: ConfigPart = {}, options: Partial<ConnectOptions> = {}): Promise<SshConnection> {
    const connection = await SshConnection.connect(host().parsedConfig(part), {
      secrets,
      signal: noAbort(),
      ...options,
    });
    onTestFinished(() => connection.close());
    return connection;
  }

  describe('a host key', () => {
    test('that is unknown is rejected with its fingerprint and the known ones', async () => {
      const known = newPublicKey();
      const { message } = await failureOf(connect({ knownHosts: `other.example ${known}` }), 'host_key_rejected');
      expect(message).toContain(`127.0.0.1:${host().server.port}`);
      expect(message).toContain(fingerprintOfLine(host().server.knownHosts));
      expect(message).toContain(fingerprintOfLine(known));
    });

    test('that has changed is rejected with both fingerprints', async () => {
      const { port } = host().server;
      const known = newPublicKey();
      const { message } = await failureOf(connect({ knownHosts: `[127.0.0.1]:${port} ${known}` }), 'host_key_rejected');
      expect(message).toContain(fingerprintOfLine(host().server.knownHosts));
      expect(message).toContain(fingerprintOfLine(known));
    });

    test('that is revoked is rejected, even without strict checking', async () => {
      const knownHosts = `@revoked * ${host().server.knownHosts.split(' ').slice(1).join(' ')}`;
      const { message } = await failureOf(connect({ knownHosts, strictHostKeyChecking: false }), 'host_key_rejected');
      expect(message).toContain('revoked');
    });

    test('that is unknown or has changed is accepted without strict checking', async () => {
      const { port } = host().server;
      await connect({ knownHosts: undefined, strictHostKeyChecking: false });
      const changed = `[127.0.0.1]:${port} ${newPublicKey()}`;
      const connection = await connect({ knownHosts: changed, strictHostKeyChecking: false });
      expect(connection.hostKeySummary).toContain('unchecked');
    });
  });

  describe('a user', () => {
    test('whose key is rejected learns which one, and never its private half', async () => {
      const { private: wrong, public: publicKey } = newKeyPair();
      const path = join(await host().newWorkspace(), 'key');
      await writeFile(path, wrong);
      const { message } = await failureOf(connect({ privateKey: `file:${path}` }), 'authentication_failed');
      expect(message).toContain(path);
      expect(message).toContain(fingerprintOfLine(publicKey));
      expect(message).not.toContain(wrong.split('\n')[1]);
    });

    test('that is unknown is rejected', async () => {
      const { message } = await failureOf(connect({ username: 'nobody-of-this-name' }), 'authentication_failed');
      expect(message).toContain('nobody-of-this-name');
    });

    test.each([
      ['no private key', 'planted', 'is not a private key'],
      ['a public key', newPublicKey(), 'is not a private key'],
      ['a private key with a passphrase', newProtectedKey('planted'), 'passphrase'],
    ])('who has %s is told that', async (_case, content, said) => {
      const path = join(await host().newWorkspace(), 'key');
      await writeFile(path, content);
      const { message } = await failureOf(connect({ privateKey: `file:${path}` }), 'secret_unavailable');
      expect(message).toContain(path);
      expect(message).toContain(said);
      expect(message).not.toContain('planted');
    });
  });

  describe('an aborted attempt', () => {
    test('is not started when the signal is aborted before', async () => {
      const reason = new Error('no need any more');
      await expect(connect({}, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });

    test('rejects immediately with the reason', async () => {
      const reason = new Error('no need any more');
      const aborting = new AbortController();
      const connected = connect({}, { signal: aborting.signal });
      setImmediate(() => aborting.abort(reason));
      await expect(connected).rejects.toBe(reason);
    });
  });

  describe('a script', () => {
    let connection: SshConnection;
    beforeAll(async () => {
      connection = await SshConnection.connect(host().parsedConfig(), { secrets, signal: noAbort() });
    });
    afterAll(() => connection.close());

    test('gets its arguments, prints on both outputs and exits with its code', async () => {
      const result = await connection.runScript(`printf '%s|' "$@"; echo "it's" >&2; exit 3`, {
        signal: noAbort(),
        arguments: ['a b', '', "it's $HOME\n`x`", '-n'],
      });
      expect(result).toEqual({ code: 3, signal: null, stdout: "a b||it's $HOME\n`x`|-n|", stderr: "it's\n" });
    });

    test('gets any arguments unchanged', async () => {
      const words = fc.array(
        fc.string({ unit: 'grapheme' }).filter((word) => !word.includes('\0')),
        { maxLength: 8 },
      );
      await fc.assert(
        fc.asyncProperty(words, async (args) => {
          const { stdout } = await connection.runScript(`for one in "$@"; do printf '%s\\0' "$one"; done`, {
            signal: noAbort(),
            arguments: args,
          });
          expect(stdout).toBe(args.map((word) => `${word}\0`).join(''));
        }),
        { numRuns: 8 },
      );
    });

    test('has an empty stdin, which does not hold the rest of the script', async () => {
      const { stdout } = await connection.runScript('cat\necho end', { signal: noAbort() });
      expect(stdout).toBe('end\n');
    });

    test('longer than any command line arrives complete', async () => {
      const { stdout } = await connection.runScript(`${': filling\n'.repeat(40_000)}echo end`, { signal: noAbort() });
      expect(stdout).toBe('end\n');
    });

    test('whose shell is killed fails with the signal', async () => {
      const { message } = await failureOf(connection.runScript('kill -9 $$', { signal: noAbort() }), 'driver_failed');
      expect(message).toContain('SIGKILL');
    });

    test('that prints without end is stopped, and others continue', async () => {
      const printed = connection.runScript('while :; do echo line; done', {
        signal: noAbort(),
        maximumOutputBytes: 9_999,
      });
      expect((await failureOf(printed, 'driver_failed')).message).toContain('9999 bytes');
      expect((await connection.runScript('echo on', { signal: noAbort() })).stdout).toBe('on\n');
    });

    test('that is aborted rejects immediately with the reason, and releases its session', async () => {
      const reason = new Error('no need any more');
      const aborting = new AbortController();
      const scripts = Array.from({ length: 9 }, () => connection.runScript('sleep 2', { signal: aborting.signal }));
      const before = performance.now();
      setTimeout(() => aborting.abort(reason), 100);
      for (const script of scripts) await expect(script).rejects.toBe(reason);
      expect(performance.now() - before).toBeLessThan(1_500);
      expect((await connection.runScript('echo on', { signal: noAbort() })).stdout).toBe('on\n');
    });

    test('shares a connection of ten sessions with 29 others and SFTP', async () => {
      const sftp = await connection.sftp(noAbort());
      const scripts = Array.from({ length: 30 }, (_none, index) =>
        connection.runScript('sleep 0.05; echo "$1"', { signal: noAbort(), arguments: [String(index)] }),
      );
      const printed = (await Promise.all(scripts)).map(({ stdout }) => stdout.trim());
      expect(printed).toEqual(scripts.map((_script, index) => String(index)));
      expect(await connection.sftp(noAbort())).toBe(sftp);
    });
  });

  describe('a command', () => {
    test('streams through its channel, which reports its exit', async () => {
      const connection = await connect();
      const channel = await connection.exec('cat; exit 4');
      let printed = '';
      channel.setEncoding('utf8').on('data', (chunk: string) => (printed += chunk));
      channel.stderr.resume();
      const ended = new Promise((resolve) => channel.on('close', (code: unknown) => resolve(code)));
      channel.write('ab');
      await until(() => printed === 'ab');
      channel.end('c');
      expect(await ended).toBe(4);
      expect(printed).toBe('abc');
    });
  });

  test('SFTP is opened once, and again when its session ended', async () => {
    const connection = await connect();
    const [one, two] = await Promise.all([connection.sftp(noAbort()), connection.sftp(noAbort())]);
    expect(one).toBe(two);
    one.end();
    await until(async () => (await connection.sftp(noAbort())) !== one);
    const path = await new Promise((resolve, reject) => {
      void connection
        .sftp(noAbort())
        .then((sftp) => sftp.realpath('/', (error, real) => (error ? reject(error) : resolve(real))));
    });
    expect(path).toBe('/');
  });

  test('a closed connection rejects every call', async () => {
    const connection = await connect();
    await connection.close();
    await connection.close();
    expect(connection.isOpen).toBe(false);
    expect(await connection.closed).toBeUndefined();
    await failureOf(connection.runScript('echo', { signal: noAbort() }), 'environment_unreachable');
    await failureOf(connection.sftp(noAbort()), 'environment_unreachable');
  });

  test('closing a connection rejects what waits for it', async () => {
    const connection = await connect();
    const scripts = Array.from({ length: 10 }, () => connection.runScript('sleep 5', { signal: noAbort() }));
    const failures = scripts.map((script) => failureOf(script, 'environment_unreachable'));
    await connection.runScript('true', { signal: AbortSignal.timeout(200) }).catch(() => undefined);
    await connection.close();
    for (const { message } of await Promise.all(failures)) expect(message).toContain('closed on this side');
  });

  test('the loss of a host rejects all calls in flight immediately', async () => {
    const connection = await connect();
    const marker = randomUUID();
    const scripts = Array.from({ length: 3 }, () =>
      connection.runScript(`sleep 5; : ${marker}`, { signal: noAbort() }),
    );
    const failures = scripts.map((script) => failureOf(script, 'environment_unreachable'));
    await connection.sftp(noAbort());
    await host().server.stop();
    onTestFinished(() => host().server.start());
    for (const { message } of await Promise.all(failures)) expect(message).toContain('is gone');
    expect(await connection.closed).toMatchObject({ code: 'environment_unreachable' });
    const { message } = await failureOf(connect(), 'environment_unreachable');
    expect(message).toContain('nobody listens');
  });
});
