import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { onTestFinished } from 'vitest';

/**
 * Lets a server of the test listen on a free port of loopback, which it returns, and closes it at the end.
 * @param endConnections what it is to be rid of before it can close
 */
export async function listenOnLoopback(
  server: Pick<Server, 'listen' | 'close' | 'address' | 'once'> & NodeJS.EventEmitter,
  endConnections: () => void = () => undefined,
): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    endConnections();
    server.close();
    await once(server, 'close');
  });
  return (server.address() as AddressInfo).port;
}
