import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** What a proxy does to its connections. */
type Condition =
  | { kind: 'healthy' }
  /** Every chunk is delayed, or only those to the server. */
  | { kind: 'slow'; delayMs: number; way: 'both' | 'to the server' }
  /** Connections are closed, and new ones as soon as they are opened. */
  | { kind: 'cut' }
  /** Nothing is delivered until the proxy is healed; then all of it is. */
  | { kind: 'held' }
  /** Connections are accepted, and nothing is delivered. Connections from before and during it stay silent permanently. */
  | { kind: 'silent' };

/** A local TCP proxy in front of one server. */
export class TcpProxy {
  readonly #server: Server;
  readonly #target: { host: string; port: number };
  readonly #links = new Set<Link>();
  #condition: Condition = { kind: 'healthy' };

  private constructor(target: URL) {
    this.#target = { host: target.hostname, port: Number(target.port) };
    this.#server = createServer((client) => this.#accept(client));
  }

  /** Starts a proxy in front of the server of a URL. */
  static async inFrontOf(targetUrl: string): Promise<TcpProxy> {
    const proxy = new TcpProxy(new URL(targetUrl));
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** The same URL, through the proxy. */
  urlFor(targetUrl: string): string {
    const url = new URL(targetUrl);
    url.hostname = '127.0.0.1';
    url.port = String((this.#server.address() as AddressInfo).port);
    return url.href;
  }

  /** The number of open connections. */
  get connections(): number {
    return this.#links.size;
  }

  slow(delayMs: number, way: 'both' | 'to the server' = 'both'): void {
    this.#become({ kind: 'slow', delayMs, way });
  }

  cut(): void {
    this.#become({ kind: 'cut' });
  }

  hold(): void {
    this.#become({ kind: 'held' });
  }

  silence(): void {
    this.#become({ kind: 'silent' });
  }

  heal(): void {
    this.#become({ kind: 'healthy' });
  }

  /** Closes the proxy and its connections. */
  async close(): Promise<void> {
    this.#server.close();
    for (const link of this.#links) link.cut();
    await once(this.#server, 'close');
  }

  #become(condition: Condition): void {
    this.#condition = condition;
    for (const link of this.#links) link.become(condition);
  }

  #accept(client: Socket): void {
    const link = new Link(client, connect(this.#target));
    this.#links.add(link);
    link.onClosed(() => this.#links.delete(link));
    link.become(this.#condition);
  }
}

/** One connection through the proxy. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  #condition: Condition = { kind: 'healthy' };

  constructor(client: Socket, server: Socket) {
    this.#client = client;
    this.#server = server;
    // Chunks are forwarded without Nagle's delay, as on a direct connection.
    for (const socket of [client, server]) socket.setNoDelay(true);
    this.#forward(client, server, true);
    this.#forward(server, client, false);
  }

  onClosed(listener: () => void): void {
    let open = 2;
    const closed = () => {
      open -= 1;
      if (open === 0) listener();
    };
    this.#client.once('close', closed);
    this.#server.once('close', closed);
  }

  become(condition: Condition): void {
    if (this.#condition.kind === 'silent' && condition.kind !== 'cut') return;
    this.#condition = condition;
    if (condition.kind === 'cut') this.cut();
    for (const socket of [this.#client, this.#server]) {
      if (condition.kind === 'held') socket.pause();
      else socket.resume();
    }
  }

  cut(): void {
    this.#client.destroy();
    this.#server.destroy();
  }

  #forward(from: Socket, to: Socket, toServer: boolean): void {
    // An error closes the socket, and the close is forwarded.
    from.on('error', () => undefined);
    from.on('data', (chunk) => {
      const condition = this.#condition;
      if (condition.kind === 'silent') return;
      if (condition.kind === 'slow' && (toServer || condition.way === 'both')) {
        setTimeout(() => to.write(chunk), condition.delayMs);
      } else to.write(chunk);
    });
    // A silent connection does not forward a close: the other end considers it open.
    from.on('close', () => {
      if (this.#condition.kind !== 'silent') to.destroySoon();
    });
  }
}
