import { setMaxListeners } from 'node:events';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { GrantedLease } from '../../contracts/index.ts';
import type { SecretResolver } from '../../secrets/resolver.ts';
import { sshConfigSchema } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import { SshConnection } from '../../ssh/connection.ts';
import { assertLeaseDirectory } from '../../ssh/lease-directory.ts';
import type { ExecutionDriver } from '../driver.ts';
import { realWorkspaceDirectory } from '../workspace-directory.ts';
import { SftpFiles } from './sftp-files.ts';
import { SshExecution } from './ssh-execution.ts';

/** What executing over SSH needs. */
export interface SshExecutionDriverOptions {
  /** Gets the private keys that environments refer to. */
  secrets: SecretResolver;
}

/** Executes on hosts that are reached over SSH: the execution half of the driver `ssh`. */
export function createSshExecutionDriver({ secrets }: SshExecutionDriverOptions): ExecutionDriver {
  return {
    name: 'ssh',
    async open(lease, options) {
      const config = configOf(lease);
      const place = lease.providerLeaseId;
      if (place === null)
        throw new EnvironmentFailedError('driver_failed', `lease ${lease.id} has no place on its host`);
      assertLeaseDirectory(config, place);
      const { workspaceDirectory } = options;
      const signal = AbortSignal.any([options.signal]);
      // Each transfer and command listens to it, and there can be many at once.
      setMaxListeners(0, signal);
      const directory = workspaceDirectory === undefined ? undefined : await realWorkspaceDirectory(workspaceDirectory);
      const connection = await SshConnection.connect(config, { secrets, signal });
      try {
        const files = await SftpFiles.open(connection, config);
        return new SshExecution({ connection, files, config, place, leaseId: lease.id }, directory, {
          ...options,
          signal,
        });
      } catch (error) {
        await connection.close();
        throw error;
      }
    },
  };
}

function configOf({ id, config }: GrantedLease): SshConfig {
  const parsed = sshConfigSchema.safeParse(config);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ');
  throw new EnvironmentFailedError(
    'driver_failed',
    `the config of lease ${id} is none of an SSH environment: ${fields}`,
  );
}
