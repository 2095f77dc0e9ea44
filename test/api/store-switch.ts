import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

/** A proxy in front of a store, which makes the store unreachable for one test. */
export interface StoreSwitch {
  /** The URL of the store through the proxy. */
  readonly url: string;
  /** Destroys all connections; new ones fail with ECONNREFUSED. */
  off(): Promise<void>;
  on(): Promise<void>;
  /** Accepts connections and never answers, as behind a network that drops packets. */
  hang(): Promise<void>;
}

/** Starts a proxy that is on. */
export async function switchFor(storeUrl: string): Promise<StoreSwitch> {
  const target = new URL(storeUrl);
  const defaultPort = target.protocol.startsWith('redis') ? 6379 : 5432;
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  let port = 0;

  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
  };
  const listen = async (onConnection: (socket: Socket) => void) => {
    server = createServer(onConnection).listen(port, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address !== null && typeof address === 'object') ({ port } = address);
  };
  const off = async () => {
    if (server === undefined) return;
    const closed = once(server, 'close');
    server.close();
    server = undefined;
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  const on = async () => {
    await off();
    await listen((client) => {
      const store = connect(Number(target.port || defaultPort), target.hostname);
      keep(client);
      keep(store);
      client.pipe(store).pipe(client);
      client.on('close', () => store.destroy());
      store.on('close', () => client.destroy());
    });
  };
  const hang = async () => {
    await off();
    await listen(keep);
  };

  await on();
  return { url: Object.assign(new URL(storeUrl), { host: `127.0.0.1:${port}` }).href, off, on, hang };
}
