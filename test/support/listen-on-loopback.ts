import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { onTestFinished } from 'vitest';

/**
 * Lets a server of the test listen on a free loopback port, and closes it after the test. Returns the port.
 * @param endConnections ends open connections, which would keep the server from closing
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
