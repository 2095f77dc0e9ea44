import { onTestFinished } from 'vitest';
import type { ProcessStores } from '../consumers/processes.ts';
import type { Backend } from '../support/queues.ts';
import { TcpProxy } from '../../testing/tcp-proxy.ts';

/** A proxy in front of the server that a URL names, closed after the test. */
export async function openProxy(targetUrl: string): Promise<TcpProxy> {
  const proxy = await TcpProxy.inFrontOf(targetUrl);
  onTestFinished(() => proxy.close());
  return proxy;
}

/** The stores of one worker, each through its own proxy, also where both are one server. */
export interface ProxiedStores extends ProcessStores {
  databaseProxy: TcpProxy;
  queueProxy: TcpProxy;
}

/** Opens proxies in front of the suite's stores. */
export async function openProxies({ database, queueUrl, prefix }: Backend): Promise<ProxiedStores> {
  const databaseProxy = await openProxy(database.url);
  const queueProxy = await openProxy(queueUrl);
  return {
    databaseProxy,
    queueProxy,
    database: { url: databaseProxy.urlFor(database.url) },
    queueUrl: queueProxy.urlFor(queueUrl),
    prefix,
  };
}
