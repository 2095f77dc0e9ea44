import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';

/** A server that answers with what it is sent, and a proxy in front of it. */
async function openEcho() {
  const echo = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const url = `tcp://127.0.0.1:${(echo.address() as AddressInfo).port}`;
  const proxy = await TcpProxy.inFrontOf(url);
  onTestFinished(async () => {
    await proxy.close();
    echo.close();
    await once(echo, 'close');
  });
  return { proxy, url };
}

/** A connection through the proxy, and what it has received. */
async function openConnection(proxy: TcpProxy, url: string) {
  const socket: Socket = connect(Number(new URL(proxy.urlFor(url)).port), '127.0.0.1');
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  const connection = { socket, received: '', send: (text: string) => void socket.write(text) };
  socket.setEncoding('utf8').on('data', (text: string) => {
    connection.received += text;
  });
  return connection;
}

test('a healthy proxy forwards everything', async () => {
  const { proxy, url } = await openEcho();
  const connection = await openConnection(proxy, url);
  connection.send('hello');
  await until(() => connection.received.length === 5);
  expect(connection.received).toBe('hello');
});

test('a slow proxy forwards everything with a delay, in order', async () => {
  const { proxy, url } = await openEcho();
  proxy.slow(50);
  const connection = await openConnection(proxy, url);
  const sentAt = performance.now();
  for (const letter of 'hello') connection.send(letter);
  await until(() => connection.received === 'hello');
  expect(performance.now() - sentAt).toBeGreaterThanOrEqual(95);
});

test('a cut proxy closes its connections and every new one, until it is healed', async () => {
  const { proxy, url } = await openEcho();
  const connection = await openConnection(proxy, url);
  const closed = once(connection.socket, 'close');
  proxy.cut();
  await closed;
  await once((await openConnection(proxy, url)).socket, 'close');
  proxy.heal();
  const another = await openConnection(proxy, url);
  another.send('hello');
  await until(() => another.received.length === 5);
  expect(another.received).toBe('hello');
});

test('a holding proxy delivers once it is healed', async () => {
  const { proxy, url } = await openEcho();
  const [held, witness] = [await openConnection(proxy, url), await openEcho()];
  proxy.hold();
  held.send('hello');
  // Another proxy has forwarded as much meanwhile.
  const other = await openConnection(witness.proxy, witness.url);
  other.send('hello');
  await until(() => other.received === 'hello');
  expect(held.received).toBe('');
  proxy.heal();
  await until(() => held.received === 'hello');
});

test('a connection from before a proxy fell silent stays silent after it is healed, and a new one does not', async () => {
  const { proxy, url } = await openEcho();
  const before = await openConnection(proxy, url);
  proxy.silence();
  const meanwhile = await openConnection(proxy, url);
  before.send('hello');
  meanwhile.send('hello');
  await until(() => proxy.connections === 2);
  proxy.heal();
  const after = await openConnection(proxy, url);
  after.send('hello');
  await until(() => after.received === 'hello');
  expect([before.received, meanwhile.received]).toEqual(['', '']);
});
