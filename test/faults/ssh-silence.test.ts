import { expect, onTestFinished, test } from 'vitest';
import { SshConnection } from '../../src/ssh/connection.ts';
import { describeOnSshd, noAbort, secrets, useSshHost } from '../support/ssh-host.ts';
import { openProxy } from './proxies.ts';

/** A dead host is detected within seconds. */
const NOTICED_WITHIN_MS = 10_000;

describeOnSshd('a connection to sshd, as it is by default,', () => {
  const host = useSshHost();

  async function connectThroughProxy() {
    const url = `ssh://127.0.0.1:${host().server.port}`;
    const proxy = await openProxy(url);
    const port = Number(new URL(proxy.urlFor(url)).port);
    const config = host().parsedConfig({ port, strictHostKeyChecking: false });
    const connection = await SshConnection.connect(config, { secrets, signal: noAbort() });
    onTestFinished(() => connection.close());
    return { proxy, connection };
  }

  test('is closed within seconds when the host falls silent, and rejects a running script', async () => {
    const { proxy, connection } = await connectThroughProxy();
    const script = connection.runScript('sleep 60', { signal: noAbort() });
    const before = performance.now();
    proxy.silence();
    await expect(script).rejects.toThrow('the host was silent for 6 s');
    expect(connection.isOpen).toBe(false);
    expect(performance.now() - before).toBeLessThan(NOTICED_WITHIN_MS);
  });

  test('is not taken for dead on a link that takes two seconds each way', async () => {
    const { proxy, connection } = await connectThroughProxy();
    proxy.slow(2_000);
    const { stdout } = await connection.runScript('sleep 5; echo on', { signal: noAbort() });
    expect(stdout).toBe('on\n');
    expect(connection.isOpen).toBe(true);
  });

  test('stays open while it is saturated with data', async () => {
    const { connection } = await connectThroughProxy();
    const channel = await connection.exec('exec head -c 300000000 /dev/zero');
    let bytes = 0;
    channel.on('data', (chunk: Buffer) => (bytes += chunk.length));
    channel.stderr.resume();
    expect(await new Promise((resolve) => channel.on('close', resolve))).toBe(0);
    expect(bytes).toBe(300_000_000);
  });
});
