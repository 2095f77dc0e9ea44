import { readFile } from 'node:fs/promises';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './paths.ts';
import { onDatabase } from '../testing/stores/databases.ts';
import type { BenchStores } from './stores.ts';
import { NODE_FLAGS } from './worker-process.ts';

/** A package of a contender. */
export interface PackageVersion {
  name: string;
  version: string;
  /** The versions of Node that it supports. */
  node: string | undefined;
}

/** The machine and the versions that the bench ran on. */
export interface Machine {
  cpu: string;
  cores: number;
  memoryGb: number;
  system: string;
  node: string;
  /** The flags of the measured processes. */
  nodeFlags: readonly string[];
  postgres: string;
  redis: string;
  packages: PackageVersion[];
}

export async function describeMachine(stores: BenchStores, packages: readonly string[]): Promise<Machine> {
  const processors = cpus();
  const [server] = await onDatabase(
    stores.serverUrl,
    (sql) => sql`select current_setting('server_version') as version`,
  );
  const info = String(await stores.redis.call('INFO', 'server'));
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    nodeFlags: NODE_FLAGS,
    postgres: server!['version'],
    redis: /^redis_version:(.*?)\r?$/m.exec(info)?.[1] ?? 'unknown',
    packages: await Promise.all([...new Set(packages)].toSorted().map(readPackage)),
  };
}

async function readPackage(name: string): Promise<PackageVersion> {
  const manifest = JSON.parse(await readFile(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')) as {
    version: string;
    engines?: { node?: string };
  };
  return { name, version: manifest.version, node: manifest.engines?.node };
}
