import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { SshConnection } from '../../src/ssh/connection.ts';
import { freePort } from '../queues/redis-server.ts';
import { listenOnLoopback } from '../support/listen-on-loopback.ts';
import { until } from '../../testing/until.ts';
import { failureOf } from './failures.ts';
import { describeOnSshd, noAbort, secrets, useSshHost } from '../support/ssh-host.ts';

const TIMEOUT_MS = 500;

/** What a busy machine may add to a timeout. */
const MARGIN_MS = 1_500;

/** Something on loopback that is no SSH server, and how many have connected to it. */
async function startServer(onConnection: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.resume();
    onConnection(socket);
  });
  const port = await listenOnLoopback(server, () => {
    for (const socket of sockets) socket.destroy();
  });
  return { port, sockets };
}

describeOnSshd('a host is unreachable, in time,', () => {
  const host = useSshHost();

  const connect = (part: { port?: number; host?: string }, signal = noAbort()) =>
    SshConnection.connect(host().parsedConfig(part), { secrets, signal, timeoutMs: TIMEOUT_MS });

  test('when nobody listens', async () => {
    const port = await freePort();
    const { message, afterMs } = await failureOf(connect({ port }), 'environment_unreachable');
    expect(message).toContain(`127.0.0.1:${port} cannot be reached: nobody listens there`);
    expect(afterMs).toBeLessThan(MARGIN_MS);
  });

  test('when no host has the name', async () => {
    const { message } = await failureOf(connect({ host: 'host.invalid' }), 'environment_unreachable');
    expect(message).toContain('host.invalid:');
  });

  test('when it accepts connections and never sends a byte', async () => {
    const { port, sockets } = await startServer(() => undefined);
    const { message, afterMs } = await failureOf(connect({ port }), 'environment_unreachable');
    expect(message).toContain('does not agree on SSH: no answer within 0.5 s');
    expect(afterMs).toBeLessThan(TIMEOUT_MS + MARGIN_MS);
    await until(() => [...sockets].every((socket) => socket.closed));
  });

  test('when it falls silent during the handshake', async () => {
    const { port } = await startServer((socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'));
    const { message, afterMs } = await failureOf(connect({ port }), 'environment_unreachable');
    expect(message).toContain('no answer within');
    expect(afterMs).toBeLessThan(TIMEOUT_MS + MARGIN_MS);
  });

  test.each([
    ['closes each connection', (socket: Socket) => socket.end()],
    ['cuts each connection', (socket: Socket) => socket.resetAndDestroy()],
    ['speaks another protocol', (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['speaks another protocol without end', (socket: Socket) => socket.write('x'.repeat(100_000))],
    ['speaks the first SSH protocol', (socket: Socket) => socket.write('SSH-1.5-old\r\n')],
    ['speaks nonsense after its greeting', (socket: Socket) => socket.write(`SSH-2.0-x\r\n${'\xff'.repeat(1000)}`)],
  ])('when it %s', async (_case, onConnection) => {
    const { port } = await startServer(onConnection);
    const { message, afterMs } = await failureOf(connect({ port }), 'environment_unreachable');
    expect(message).toContain(`127.0.0.1:${port}`);
    expect(afterMs).toBeLessThan(TIMEOUT_MS + MARGIN_MS);
  });

  test('and an attempt aborted meanwhile rejects immediately and closes its connection', async () => {
    const { port, sockets } = await startServer(() => undefined);
    const aborting = new AbortController();
    const reason = new Error('no need any more');
    const connected = SshConnection.connect(host().parsedConfig({ port }), { secrets, signal: aborting.signal });
    await until(() => sockets.size === 1);
    const before = performance.now();
    aborting.abort(reason);
    await expect(connected).rejects.toBe(reason);
    expect(performance.now() - before).toBeLessThan(MARGIN_MS);
    await until(() => [...sockets].every((socket) => socket.closed));
  });
});
