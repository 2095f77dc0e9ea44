import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

/** Stands between a client and a store, so that the store can be away for one test only. */
export interface StoreSwitch {
  /** The store's URL, by way of the switch. */
  readonly url: string;
  /** Cuts all connections and refuses new ones. */
  off(): Promise<void>;
  on(): Promise<void>;
  /** Accepts connections, and then says nothing: a store behind a network that drops packets. */
  hang(): Promise<void>;
}

/** Starts switched on. */
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
