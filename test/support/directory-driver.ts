import { access, constants, mkdir, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { EnvironmentFailedError } from '../../src/contracts/index.ts';
import type { ControlDriver } from '../../src/environments/drivers/driver.ts';

/** Sandboxes that are directories of one machine, under the root that an environment names. */
export const directoryConfigSchema = z.strictObject({ root: z.string().startsWith('/') });
type DirectoryConfig = z.output<typeof directoryConfigSchema>;

/** Leases directories: the smallest driver with effects outside Postgres. */
export const directoryDriver: ControlDriver<DirectoryConfig> = {
  name: 'sandbox',
  configSchema: directoryConfigSchema,

  async probe({ config: { root } }) {
    const begun = performance.now();
    try {
      await access(root, constants.W_OK);
      const check = { name: 'root', ok: true, detail: `${root} can be written to` };
      return { checks: [check], latencyMs: performance.now() - begun };
    } catch {
      const detail = `${root} cannot be written to; make it, and give it to the user that workers run as`;
      return { checks: [{ name: 'root', ok: false, detail }], latencyMs: null };
    }
  },

  // What an earlier lease left is taken over; making it again after a crash is harmless.
  async acquire({ environment: { config }, leaseId, providerLeaseId }) {
    const place = placeIn(config, providerLeaseId ?? leaseId);
    try {
      await mkdir(place, { recursive: true });
    } catch (cause) {
      throw new EnvironmentFailedError('environment_unreachable', `${place} cannot be made`, { cause });
    }
    return { providerLeaseId: place };
  },

  // Without its own id the lease ended before its acquisition was recorded: something may be there all the same.
  async release({ environment: { config }, leaseId, providerLeaseId }) {
    await rm(placeIn(config, providerLeaseId ?? leaseId), { recursive: true, force: true });
  },
};

function placeIn({ root }: DirectoryConfig, name: string): string {
  const place = resolve(root, name);
  if (dirname(place) === resolve(root)) return place;
  throw new EnvironmentFailedError('workspace_unusable', `${place} is not of ${root}; was that changed? Remove it`);
}
