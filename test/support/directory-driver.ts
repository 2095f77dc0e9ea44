import { access, constants, mkdir, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { EnvironmentFailedError } from '../../src/contracts/index.ts';
import type { ControlDriver } from '../../src/environments/drivers/driver.ts';

/** Sandboxes are directories of one machine, under the root in the environment's config. */
export const directoryConfigSchema = z.strictObject({ root: z.string().startsWith('/') });
type DirectoryConfig = z.output<typeof directoryConfigSchema>;

/** Leases directories: the smallest driver with effects outside Postgres. */
export const directoryDriver: ControlDriver<DirectoryConfig> = {
  name: 'sandbox',
  configSchema: directoryConfigSchema,

  async probe({ config: { root } }) {
    const startedAt = performance.now();
    try {
      await access(root, constants.W_OK);
      const check = { name: 'root', ok: true, detail: `${root} can be written to` };
      return { checks: [check], latencyMs: performance.now() - startedAt };
    } catch {
      const detail = `${root} cannot be written to; create it, and give it to the user that workers run as`;
      return { checks: [{ name: 'root', ok: false, detail }], latencyMs: null };
    }
  },

  // The directory of an earlier lease is adopted; creating it again after a crash is harmless.
  async acquire({ environment: { config }, leaseId, providerLeaseId }) {
    const directory = directoryIn(config, providerLeaseId ?? leaseId);
    try {
      await mkdir(directory, { recursive: true });
    } catch (cause) {
      throw new EnvironmentFailedError('environment_unreachable', `${directory} cannot be created`, { cause });
    }
    return { providerLeaseId: directory };
  },

  // Without a provider lease id, the lease ended before its acquisition was recorded: the directory may exist.
  async release({ environment: { config }, leaseId, providerLeaseId }) {
    await rm(directoryIn(config, providerLeaseId ?? leaseId), { recursive: true, force: true });
  },
};

function directoryIn({ root }: DirectoryConfig, name: string): string {
  const path = resolve(root, name);
  if (dirname(path) === resolve(root)) return path;
  throw new EnvironmentFailedError('workspace_unusable', `${path} is outside ${root}: was that changed? Remove it`);
}
