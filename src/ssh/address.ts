import type { SshConfig } from './config.ts';

/** How a message names a host: `host:port`. */
export function addressOf({ host, port }: Pick<SshConfig, 'host' | 'port'>): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
