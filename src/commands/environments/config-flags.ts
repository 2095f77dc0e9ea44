import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option } from 'commander';
import type { Command } from 'commander';
import { InvalidConfigurationError } from '../../contracts/index.ts';
import type { EnvironmentDriver, Metadata } from '../../contracts/index.ts';
import { messageOf } from '../../lib/errors.ts';
import type { SecretReference } from '../../secrets/reference.ts';
import { createSecretResolver } from '../../secrets/resolver.ts';
import { sealSecret } from '../../secrets/sealing.ts';
import { readPrivateKey } from '../../ssh/dial.ts';
import { parseCount } from '../arguments.ts';

/** The config of an environment: as JSON, or by fields of the driver `ssh`. */
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
    .option('--config <json>', 'config as JSON, or @FILE; flags override its fields, and null removes a field')
    .option('--host <host>', 'ssh: name or address of the host')
    .addOption(new Option('--port <port>', 'ssh: port (default: 22)').argParser(parseCount))
    .option('--username <name>', 'ssh: user to log in as')
    .option('--remote-workspace-path <path>', 'ssh: absolute path of a directory on the host')
    .addOption(
      new Option('--private-key <reference>', 'ssh: env:NAME, file:/absolute/path or sealed:…').conflicts(
        'sealPrivateKey',
      ),
    )
    .option('--seal-private-key <path>', 'ssh: file of a private key, stored sealed under LESSOR_SECRET_KEY')
    .option('--known-hosts <path>', 'ssh: file with the keys of the host, from `ssh-keyscan` or `ssh-keygen -F`')
    .option('--strict-host-key-checking', 'ssh: reject hosts whose key is not known (default)')
    .option('--no-strict-host-key-checking', 'ssh: accept any host key')
    .addOption(
      new Option('--workspace-mode <mode>', 'ssh: a new directory for each lease, or the existing one').choices([
        'staged',
        'in_place',
      ]),
    );
}

/**
 * The fields of a config that flags give; null removes one. The environment service checks them against the driver.
 * @throws {InvalidConfigurationError} for files and JSON that cannot be read, and flags of another driver
 */
export async function readConfigFields(
  flags: ConfigFlags,
  driver: EnvironmentDriver,
  secretKey: string | undefined,
): Promise<Metadata> {
  const { config, sealPrivateKey, knownHosts } = flags;
  const sshFields = {
    host: flags.host,
    port: flags.port,
    username: flags.username,
    remoteWorkspacePath: flags.remoteWorkspacePath,
    privateKey: sealPrivateKey === undefined ? flags.privateKey : await sealKeyFile(sealPrivateKey, secretKey),
    knownHosts: knownHosts === undefined ? undefined : await readText('--known-hosts', knownHosts),
    strictHostKeyChecking: flags.strictHostKeyChecking,
    workspaceMode: flags.workspaceMode,
  };
  const given = Object.entries(sshFields).filter(([, value]) => value !== undefined);
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

/**
 * Seals the private key in a file, after checking that it is one.
 * @throws {InvalidConfigurationError} when LESSOR_SECRET_KEY is missing or not a key
 * @throws {EnvironmentFailedError} `secret_unavailable` when the file holds no usable private key
 */
async function sealKeyFile(path: string, secretKey: string | undefined): Promise<SecretReference> {
  if (secretKey === undefined || secretKey === '') {
    throw new InvalidConfigurationError(
      '--seal-private-key needs LESSOR_SECRET_KEY, the same as the workers have; `openssl rand -base64 32` makes one',
    );
  }
  const secrets = createSecretResolver({ env: process.env, secretKey });
  const reference = `file:${resolve(path)}`;
  await readPrivateKey(reference, secrets);
  return sealSecret(await secrets.resolve(reference), secretKey);
}

/**
 * Reads the JSON object that a flag gives, or the file that it names after an `@`.
 * @throws {InvalidConfigurationError} which repeats nothing of the value: it can contain a secret
 */
async function readObject(flag: string, given: string): Promise<Metadata> {
  const text = given.startsWith('@') ? await readText(flag, given.slice(1)) : given;
  const value = parseJson(flag, text);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Metadata;
  throw new InvalidConfigurationError(`${flag} is not a JSON object: give one such as {"host": "build-1"}, or @FILE`);
}

async function readText(flag: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new InvalidConfigurationError(`${flag} cannot be read: ${messageOf(error)}`);
  }
}

function parseJson(flag: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // The parser's message repeats part of the text.
    const where = / at position \d+/.exec(messageOf(error))?.[0] ?? '';
    throw new InvalidConfigurationError(`${flag} is not JSON${where}: give an object, or @FILE`);
  }
}
