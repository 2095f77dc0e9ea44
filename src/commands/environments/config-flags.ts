import { readFile } from 'node:fs/promises';
import { Option } from 'commander';
import type { Command } from 'commander';
import { InvalidConfigurationError } from '../../contracts/index.ts';
import type { EnvironmentDriver, Metadata } from '../../contracts/index.ts';
import { parseCount } from '../settings.ts';
import { readObject } from './read-object.ts';
import { sealKeyFile } from './seal-key-file.ts';

/** What an environment's config is to be: all of it at once, or by fields of the driver `ssh`. */
export interface ConfigFlags {
  config?: string;
  host?: string;
  port?: number;
  username?: string;
  remoteWorkspacePath?: string;
  privateKey?: string;
  sealPrivateKey?: string;
  knownHosts?: string;
  strictHostKeyChecking?: boolean;
  workspaceMode?: string;
}

/** Adds the options of {@link ConfigFlags}. */
export function addConfigOptions(command: Command): Command {
  return command
    .option('--config <json>', 'config as JSON, or @FILE; flags win over its fields, and null takes a field away')
    .option('--host <host>', 'ssh: name or address of the host')
    .addOption(new Option('--port <port>', 'ssh: port; default 22').argParser(parseCount))
    .option('--username <name>', 'ssh: whom to log in as')
    .option('--remote-workspace-path <path>', 'ssh: absolute path of a directory on the host')
    .addOption(
      new Option('--private-key <reference>', 'ssh: env:NAME, file:/absolute/path or sealed:…').conflicts(
        'sealPrivateKey',
      ),
    )
    .option('--seal-private-key <path>', 'ssh: file of a key to be stored sealed under LESSOR_SECRET_KEY')
    .option('--known-hosts <path>', 'ssh: file with the host’s keys, as of `ssh-keyscan` or `ssh-keygen -F`')
    .option('--strict-host-key-checking', 'ssh: refuse hosts whose key is not known; the default')
    .option('--no-strict-host-key-checking', 'ssh: take any host for the one that is meant')
    .addOption(
      new Option('--workspace-mode <mode>', 'ssh: a directory for each lease, or the one that is there').choices([
        'staged',
        'in_place',
      ]),
    );
}

/**
 * The fields of a config that flags give; null for one that is to be taken away. Whether they fit the driver is for
 * the environment service to say.
 * @throws {InvalidConfigurationError} for files and JSON that cannot be read, and flags of another driver
 */
export async function configFields(
  flags: ConfigFlags,
  driver: EnvironmentDriver,
  env: NodeJS.ProcessEnv,
): Promise<Metadata> {
  const { config, sealPrivateKey, knownHosts, ...rest } = flags;
  const { host, port, username, remoteWorkspacePath, privateKey, strictHostKeyChecking, workspaceMode } = rest;
  const ofSsh = {
    host,
    port,
    username,
    remoteWorkspacePath,
    privateKey: sealPrivateKey === undefined ? privateKey : await sealKeyFile(sealPrivateKey, env),
    knownHosts: knownHosts === undefined ? undefined : await readKnownHosts(knownHosts),
    strictHostKeyChecking,
    workspaceMode,
  };
  const given = Object.entries(ofSsh).filter(([, value]) => value !== undefined);
  if (driver !== 'ssh' && given.length > 0) {
    const names = given.map(([name]) => name).join(', ');
    throw new InvalidConfigurationError(`only the driver ssh has flags for ${names}: give --config to ${driver}`);
  }
  return { ...(config === undefined ? {} : await readObject('--config', config)), ...Object.fromEntries(given) };
}

/** A config with some of its fields changed. */
export function changedConfig(before: Metadata, fields: Metadata): Metadata {
  return Object.fromEntries(Object.entries({ ...before, ...fields }).filter(([, value]) => value !== null));
}

async function readKnownHosts(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new InvalidConfigurationError(`--known-hosts cannot be read: ${(error as Error).message}`);
  }
}
