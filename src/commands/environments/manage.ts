import { Command, Option } from 'commander';
import { ENVIRONMENT_DRIVERS, InvalidConfigurationError, RejectedError } from '../../contracts/index.ts';
import type { EnvironmentDriver } from '../../contracts/index.ts';
import type { Db } from '../../db/connection.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { lockCompanies } from '../../db/statements/companies.ts';
import { environmentService } from '../../environments/service/index.ts';
import type { Environment } from '../../environments/service/input.ts';
import { printableJson, printableLine } from '../../lib/printable.ts';
import { idOption, parseId } from '../arguments.ts';
import { addSettings, databaseSettings, readSettings, secretKeySetting } from '../options.ts';
import { withDatabase } from '../with-database.ts';
import { addConfigOptions, changedConfig, readConfigFields } from './config-flags.ts';
import type { ConfigFlags } from './config-flags.ts';

/** Creating and updating can seal a private key. */
const SETTINGS = { ...databaseSettings, secretKey: secretKeySetting };

interface CreateOptions extends ConfigFlags {
  company: string;
  name: string;
  driver: EnvironmentDriver;
  description?: string;
  json: boolean;
}

/** `lessor environments create` */
export function createEnvironmentCommand(): Command {
  const command = addSettings(
    new Command('create').description('create an environment in which the runs of a company can execute'),
    SETTINGS,
  )
    .addOption(idOption('--company <id>', 'company that owns it').makeOptionMandatory())
    .addOption(new Option('--name <name>', 'display name').makeOptionMandatory())
    .addOption(new Option('--driver <driver>', 'its kind').choices(ENVIRONMENT_DRIVERS).makeOptionMandatory())
    .option('--description <text>', 'purpose');
  return addJsonOption(addConfigOptions(command)).action(createEnvironment);
}

async function createEnvironment(options: CreateOptions): Promise<void> {
  const { company, name, driver, description } = options;
  const { databaseUrl, secretKey } = readSettings(SETTINGS, options);
  const config = changedConfig({}, await readConfigFields(options, driver, secretKey));
  const environment = await withDatabase(databaseUrl, (db) =>
    environmentService(db, { actor: operator() }).create(company, { name, driver, description, config }),
  );
  writeEnvironment('created', environment, options);
}

interface UpdateOptions extends ConfigFlags {
  name?: string;
  description?: string;
  json: boolean;
}

/** `lessor environments update` */
export function updateEnvironmentCommand(): Command {
  const command = addSettings(
    new Command('update').description('change the given fields of an environment; existing leases keep the old ones'),
    SETTINGS,
  )
    .argument('<environment>', 'id of the environment', parseId)
    .option('--name <name>', 'display name')
    .option('--description <text>', 'purpose');
  return addJsonOption(addConfigOptions(command)).action(updateEnvironment);
}

async function updateEnvironment(id: string, options: UpdateOptions): Promise<void> {
  const { databaseUrl, secretKey } = readSettings(SETTINGS, options);
  const { json, databaseUrl: _, ...changes } = options as UpdateOptions & { databaseUrl?: string };
  if (Object.keys(changes).length === 0) {
    throw new InvalidConfigurationError('nothing to update: give --name, --description or a field of the config');
  }
  const environment = await withDatabase(databaseUrl, (db) => update(db, id, changes, secretKey));
  writeEnvironment('updated', environment, { json });
}

async function update(
  db: Db,
  id: string,
  { name, description, ...configFlags }: Omit<UpdateOptions, 'json'>,
  secretKey: string | undefined,
): Promise<Environment> {
  const { companyId, driver } = await findEnvironment(db, id);
  const fields = await readConfigFields(configFlags, driver, secretKey);
  // Under the company's lock, concurrent updates of different fields are both kept.
  return db.transaction(async (tx) => {
    await lockCompanies(tx, [companyId], 'known');
    const { config: before } = await findEnvironment(tx, id);
    const config = Object.keys(fields).length === 0 ? undefined : changedConfig(before, fields);
    return (await environmentService(tx, { actor: operator() }).update(id, { name, description, config }))!;
  });
}

/** `lessor environments archive` */
export function archiveEnvironmentCommand(): Command {
  const command = new Command('archive')
    .description('grant no more leases on an environment; those it has are not ended')
    .argument('<environment>', 'id of the environment', parseId);
  return addJsonOption(addSettings(command, databaseSettings)).action(archiveEnvironment);
}

async function archiveEnvironment(id: string, options: { json: boolean }): Promise<void> {
  const { databaseUrl } = readSettings(databaseSettings, options);
  const environment = await withDatabase(databaseUrl, async (db) => {
    await findEnvironment(db, id);
    return environmentService(db, { actor: operator() }).archive(id);
  });
  writeEnvironment('archived', environment!, options);
}

/** @throws {RejectedError} `unknown_environment` */
export async function findEnvironment(db: Db, id: string): Promise<Environment> {
  const environment = await environmentService(db).getById(id);
  if (environment !== null) return environment;
  throw new RejectedError({ code: 'unknown_environment', reason: `there is no environment ${id}` });
}

/** The actor of activity events for changes made on the command line. */
function operator(): Actor {
  return { type: 'user', id: process.env['LOGNAME'] || process.env['USER'] || 'operator' };
}

function addJsonOption(command: Command): Command {
  return command.option('--json', 'print the environment as JSON instead of a sentence', false);
}

function writeEnvironment(done: string, environment: Environment, { json }: { json: boolean }): void {
  const { id, name, driver } = environment;
  const sentence = `${done} environment ${id}: ${printableLine(name)} (${driver})`;
  process.stdout.write(`${json ? printableJson(environment) : sentence}\n`);
}
