import type { SecretResolver } from '../../secrets/resolver.ts';
import { sshConfigSchema } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import { SshConnectionPool } from '../../ssh/connection-pool.ts';
import { assertLeaseDirectory, leaseDirectoryOf } from '../../ssh/lease-directory.ts';
import type { ControlDriver } from './driver.ts';
import { createLeaseDirectory, removeLeaseDirectory } from './ssh-lease-directory.ts';
import { probeSsh } from './ssh-probe.ts';

/** Options of the SSH control driver. */
export interface SshDriverOptions {
  /** Reads the private keys that configs refer to. */
  secrets: SecretResolver;
  /** How long an unused connection is kept, in milliseconds. Default one minute. */
  idleMs?: number;
  /** Interval of keepalive requests on a connection, in milliseconds. Default 2 seconds. */
  keepAliveIntervalMs?: number;
  /** From SIGTERM to SIGKILL for what a run left running, in whole seconds. Default 5. */
  graceSeconds?: number;
}

const GRACE_SECONDS = 5;

/**
 * The control half of the driver for SSH hosts. A lease's `providerLeaseId` is the absolute path of its lease directory.
 */
export function createSshDriver(options: SshDriverOptions): ControlDriver<SshConfig> & { close(): Promise<void> } {
  const { secrets, graceSeconds = GRACE_SECONDS, ...connectionOptions } = options;
  const connections = new SshConnectionPool({ secrets, ...connectionOptions });

  return {
    name: 'ssh',
    configSchema: sshConfigSchema,

    probe: ({ config }, { signal }) => probeSsh(config, { secrets, signal }),

    async acquire({ environment, leaseId, providerLeaseId }, { signal }) {
      const { config } = environment;
      const directory = providerLeaseId ?? leaseDirectoryOf(config, leaseId);
      assertLeaseDirectory(config, directory);
      const isReused = providerLeaseId !== null;
      await connections.use(environment, signal, (connection) =>
        createLeaseDirectory(connection, { config, directory, isReused, graceSeconds, signal }),
      );
      return { providerLeaseId: directory };
    },

    async release({ environment, leaseId, providerLeaseId }, { signal }) {
      const { config } = environment;
      const directory = providerLeaseId ?? leaseDirectoryOf(config, leaseId);
      assertLeaseDirectory(config, directory);
      await connections.use(environment, signal, (connection) =>
        removeLeaseDirectory(connection, { config, directory, graceSeconds, signal }),
      );
    },

    close: () => connections.close(),
  };
}
