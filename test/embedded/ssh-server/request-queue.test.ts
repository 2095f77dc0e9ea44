import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { RequestQueue } from '../../../src/embedded/ssh-server/sftp/request-queue.ts';
import { Transport } from '../../../src/embedded/ssh-server/transport.ts';

test.each([
  ['many requests', 128, 0],
  ['many bytes', 3, 1_024 * 1_024],
])('a client is not listened to while %s wait to be served', async (_what, harmless, bytes) => {
  const socket = await openSocket();
  const queue = new RequestQueue(new Transport(socket, () => undefined));
  const served: number[] = [];
  const gate = new AbortController();
  const opened = once(gate.signal, 'abort');
  const add = (index: number) => {
    const serve = async () => {
      await opened;
      served.push(index);
    };
    queue.add({ serve, bytes });
  };
  for (let index = 0; index < harmless; index += 1) add(index);
  expect(socket.isPaused()).toBe(false);
  add(harmless);
  expect(socket.isPaused()).toBe(true);
  gate.abort();
  await queue.idle();
  expect(socket.isPaused()).toBe(false);
  expect(served).toEqual(Array.from({ length: harmless + 1 }, (_, index) => index));
});

async function openSocket(): Promise<Socket> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = createConnection(port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [Socket];
  onTestFinished(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  return socket.resume();
}
