import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import type { SshConnection } from '../../src/ssh/connection.ts';
import { SshConnectionPool } from '../../src/ssh/connection-pool.ts';
import type { ConnectedEnvironment, SshConnectionPoolOptions } from '../../src/ssh/connection-pool.ts';
import { hasCode } from '../../src/lib/errors.ts';
import { runningProcesses } from '../../testing/running-processes.ts';
import { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';
import { failureOf } from './failures.ts';
import { describeOnSshd, noAbort, secrets, useSshHost } from '../support/ssh-host.ts';
import type { SshHost } from '../support/ssh-host.ts';

/** So that silence is noticed in a fraction of a second. */
const KEEP_ALIVE_INTERVAL_MS = 300;

/** What a busy machine may add. */
const MARGIN_MS = 5_000;

const sayOn = (connection: SshConnection) => connection.runScript('echo on', { signal: noAbort() });

/** An environment behind a proxy, and the connections to it. */
async function openBehindProxy(host: SshHost, options: Partial<SshConnectionPoolOptions> = {}) {
  const connections = new SshConnectionPool({ secrets, keepAliveIntervalMs: KEEP_ALIVE_INTERVAL_MS, ...options });
  const proxy = await TcpProxy.inFrontOf(`ssh://127.0.0.1:${host.server.port}`);
  onTestFinished(() => proxy.close());
  onTestFinished(() => connections.close());
  const port = Number(new URL(proxy.urlFor('ssh://host:22')).port);
  const config = host.parsedConfig({ port, strictHostKeyChecking: false });
  const environment: ConnectedEnvironment = { id: randomUUID(), config };
  const use = <Result>(work: (connection: SshConnection) => Promise<Result>, signal = noAbort()) =>
    connections.use(environment, signal, work);
  return { connections, proxy, environment, use };
}

describeOnSshd('the shared connection to sshd', () => {
  const host = useSshHost();

  const open = (options?: Partial<SshConnectionPoolOptions>) => openBehindProxy(host(), options);

  test('is opened once for all its users, concurrent ones too, and kept', async () => {
    const { use, proxy, connections, environment } = await open();
    const used = await Promise.all(Array.from({ length: 5 }, () => use(async (connection) => connection)));
    expect(new Set(used).size).toBe(1);
    expect(await use(async (connection) => connection)).toBe(used[0]);
    expect(proxy.connections).toBe(1);
    const other = { ...environment, id: randomUUID() };
    expect(await connections.use(other, noAbort(), async (connection) => connection)).not.toBe(used[0]);
    const changed = { ...environment, config: { ...environment.config, remoteWorkspacePath: '/other' } };
    expect(await connections.use(changed, noAbort(), async (connection) => connection)).not.toBe(used[0]);
    expect(proxy.connections).toBe(3);
  });

  test('is opened again after a loss, before a call or during it', async () => {
    const { use, proxy } = await open();
    const first = await use(async (connection) => connection);
    proxy.cut();
    proxy.heal();
    const tries: SshConnection[] = [];
    const result = await use(async (connection) => {
      tries.push(connection);
      if (tries.length === 1) {
        const said = connection.runScript('sleep 5', { signal: noAbort() });
        proxy.cut();
        proxy.heal();
        await said;
      }
      return sayOn(connection);
    });
    expect(result.stdout).toBe('on\n');
    expect(new Set([first, ...tries]).size).toBeGreaterThanOrEqual(2);
    expect(first.isOpen).toBe(false);
  });

  test('that falls silent is detected within seconds, and its work is done on a new one', async () => {
    const { use, proxy } = await open();
    const first = await use(async (connection) => connection);
    await use(sayOn);
    const before = performance.now();
    proxy.silence();
    // The connection that stands stays silent, a new one is heard.
    proxy.heal();
    expect((await use(sayOn)).stdout).toBe('on\n');
    expect((await first.closed)!.message).toContain('silent for 0.9 s');
    expect(performance.now() - before).toBeLessThan(3 * KEEP_ALIVE_INTERVAL_MS + MARGIN_MS);
  });

  test('that is busy for a long time is not considered dead', async () => {
    const { use } = await open();
    const first = await use(async (connection) => connection);
    const result = await use((connection) => connection.runScript('sleep 1.2; echo done', { signal: noAbort() }));
    expect(result.stdout).toBe('done\n');
    expect(await use(async (connection) => connection)).toBe(first);
  });

  test('does not repeat work that fails on its own', async () => {
    const { use } = await open();
    let tries = 0;
    const failure = new Error('of the work itself');
    const failing = use(() => {
      tries += 1;
      return Promise.reject(failure);
    });
    await expect(failing).rejects.toBe(failure);
    expect(tries).toBe(1);
  });

  test('repeats work once when every connection is lost', async () => {
    const { use, proxy } = await open();
    let tries = 0;
    const failing = use(async (connection) => {
      tries += 1;
      const said = connection.runScript('sleep 5', { signal: noAbort() });
      proxy.cut();
      proxy.heal();
      return said;
    });
    await failureOf(failing, 'environment_unreachable');
    expect(tries).toBe(2);
  });

  test('that cannot be opened rejects all its waiters, and the next call tries again', async () => {
    const { use, proxy } = await open();
    proxy.cut();
    const waiting = [use(sayOn), use(sayOn)];
    for (const one of waiting) await failureOf(one, 'environment_unreachable');
    proxy.heal();
    expect((await use(sayOn)).stdout).toBe('on\n');
  });

  test('is opened for the remaining waiters when one aborts', async () => {
    const { use, proxy } = await open();
    proxy.hold();
    const reason = new Error('no need any more');
    const [leaving, alsoLeaving] = [new AbortController(), new AbortController()];
    const left = [use(sayOn, leaving.signal), use(sayOn, alsoLeaving.signal)];
    const staying = use(sayOn);
    leaving.abort(reason);
    alsoLeaving.abort(reason);
    for (const one of left) await expect(one).rejects.toBe(reason);
    proxy.heal();
    expect((await staying).stdout).toBe('on\n');
    expect(proxy.connections).toBe(1);
  });

  test('is not opened once nobody waits for it', async () => {
    const { use, proxy } = await open();
    proxy.hold();
    const leaving = new AbortController();
    const left = use(sayOn, leaving.signal);
    await until(() => proxy.connections === 1);
    leaving.abort(new Error('no need any more'));
    await expect(left).rejects.toThrow('no need any more');
    proxy.heal();
    await until(() => proxy.connections === 0);
    expect((await use(sayOn)).stdout).toBe('on\n');
  });

  test('is closed after its idle time, and not before', async () => {
    const { use, proxy } = await open({ idleMs: 100 });
    await use((connection) => connection.runScript('sleep 0.2', { signal: noAbort() }));
    expect(proxy.connections).toBe(1);
    await until(() => proxy.connections === 0);
    expect((await use(sayOn)).stdout).toBe('on\n');
  });

  test('is closed with the pool, also while in use, and not opened again', async () => {
    const { use, connections, proxy } = await open();
    const working = use((connection) => connection.runScript('sleep 5', { signal: noAbort() }));
    const failed = failureOf(working, 'environment_unreachable');
    await until(() => proxy.connections === 1);
    await use(sayOn);
    await connections.close();
    await failed;
    await until(() => proxy.connections === 0);
    expect((await failureOf(use(sayOn), 'driver_failed')).message).toContain('worker stops');
  });
});

describeOnSshd('the shared connection to sshd', () => {
  const host = useSshHost();

  test('is replaced within seconds when its process on the host is stopped', async () => {
    const { use } = await openBehindProxy(host());
    const first = await use(async (connection) => connection);
    const halted = await haltSessions();
    try {
      expect((await use(sayOn)).stdout).toBe('on\n');
      expect((await first.closed)!.message).toContain('silent');
    } finally {
      for (const pid of halted) signalled(pid, 'SIGCONT');
    }
  });
});

/** Halts the processes that serve connections to the sshd of this process, and resolves to their ids. */
async function haltSessions(): Promise<number[]> {
  const processes = runningProcesses();
  const ofThis = new Set([process.pid]);
  for (let size = 0; size !== ofThis.size;) {
    size = ofThis.size;
    for (const { pid, parent } of processes) if (ofThis.has(parent)) ofThis.add(pid);
  }
  const sessions = processes.filter(({ pid, command }) => ofThis.has(pid) && /^(\S*\/)?sshd/.test(command));
  const halted = sessions.map(({ pid }) => pid).filter((pid) => signalled(pid, 'SIGSTOP'));
  expect(halted.length).toBeGreaterThan(0);
  return halted;
}

/** Whether the process was still there: those of connections of earlier tests are about to end. */
function signalled(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false;
    throw error;
  }
}
