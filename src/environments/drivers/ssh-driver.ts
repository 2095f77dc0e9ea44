import type { SecretResolver } from '../../secrets/resolver.ts';
import { sshConfigSchema } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import { SshConnections } from '../../ssh/connections.ts';
import { assertLeaseDirectory, leaseDirectoryOf } from '../../ssh/lease-directory.ts';
import type { ControlDriver } from './driver.ts';
import { makePlace, removePlace } from './ssh-lease-directory.ts';
import { probeSsh } from './ssh-probe.ts';

/** What the driver works with. */
export interface SshDriverOptions {
  /** Gets the private keys that configs refer to. */
  secrets: SecretResolver;
  /** How long a connection that nobody uses is kept, in milliseconds. Default one minute. */
  idleMs?: number;
  /** Between two questions whether a connected host is still there, in milliseconds. Default 2 seconds. */
  keepAliveIntervalMs?: number;
  /** From SIGTERM to SIGKILL for what a run left running, in whole seconds. Default 5. */
  graceSeconds?: number;
}

const GRACE_SECONDS = 5;

/**
 * The control half of the driver for hosts that are reached over SSH. A lease's `providerLeaseId` is the absolute path of
 * its place on the host.
 */
export function createSshDriver(options: SshDriverOptions): ControlDriver<SshConfig> & { close(): Promise<void> } {
  const { secrets, graceSeconds = GRACE_SECONDS, ...connectionOptions } = options;
  const connections = new SshConnections({ secrets, ...connectionOptions });

  return {
    name: 'ssh',
    configSchema: sshConfigSchema,

    probe: ({ config }, { signal }) => probeSsh(config, { secrets, signal }),

    async acquire({ environment, leaseId, providerLeaseId }, { signal }) {
      const { config } = environment;
      const place = providerLeaseId ?? leaseDirectoryOf(config, leaseId);
      assertLeaseDirectory(config, place);
      const isTakenOver = providerLeaseId !== null;
      await connections.use(environment, signal, (connection) =>
        makePlace(connection, { config, place, isTakenOver, graceSeconds, signal }),
      );
      return { providerLeaseId: place };
    },

    async release({ environment, leaseId, providerLeaseId }, { signal }) {
      const { config } = environment;
      const place = providerLeaseId ?? leaseDirectoryOf(config, leaseId);
      assertLeaseDirectory(config, place);
      await connections.use(environment, signal, (connection) =>
        removePlace(connection, { config, place, graceSeconds, signal }),
      );
    },

    close: () => connections.close(),
  };
}
