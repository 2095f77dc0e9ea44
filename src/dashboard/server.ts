import { isIPv6 } from 'node:net';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { createDashboard } from './app.ts';
import type { DashboardOptions } from './app.ts';
import { assertComplete } from './credentials.ts';
import { isLoopback } from './loopback.ts';

/** How to serve the dashboard. */
export interface DashboardServerOptions extends DashboardOptions {
  host: string;
  /** 0 takes any free one. */
  port: number;
}

/** A dashboard that listens. */
export interface RunningDashboard {
  url: string;
  /** Stops listening, lets requests under way end, then closes the queues. */
  close(): Promise<void>;
}

/**
 * Serves the dashboard.
 * @throws {InvalidConfigurationError} when others than this machine could use it without credentials, or when the
 * address cannot be listened on
 */
export async function startDashboard(options: DashboardServerOptions): Promise<RunningDashboard> {
  const { host, port, credentials } = options;
  if (credentials !== undefined) assertComplete(credentials);
  else if (!isLoopback(host)) {
    throw new InvalidConfigurationError(
      'DASHBOARD_HOST lets other machines in, so set DASHBOARD_USERNAME and DASHBOARD_PASSWORD, or use 127.0.0.1',
    );
  }
  const app = await createDashboard(options);
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    throw explainListenError(error);
  }
  const address = app.server.address();
  const actualPort = address !== null && typeof address === 'object' ? address.port : port;
  return { url: formatUrl(host, actualPort), close: () => app.close() };
}

function formatUrl(host: string, port: number): string {
  if (host === '0.0.0.0' || host === '::') return `http://127.0.0.1:${port}`;
  return `http://${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

const LISTEN_ERRORS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address of the dashboard is taken; set DASHBOARD_PORT to a free port',
  EACCES: 'the dashboard may not listen on that port; set DASHBOARD_PORT to one above 1023',
  EADDRNOTAVAIL: 'DASHBOARD_HOST is no address of this machine',
  ENOTFOUND: 'DASHBOARD_HOST is a name that cannot be resolved',
};

function explainListenError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = LISTEN_ERRORS[code];
  return message === undefined ? error : new InvalidConfigurationError(message);
}
