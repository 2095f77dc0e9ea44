import { Command } from 'commander';
import { InvalidConfigurationError } from '../../contracts/index.ts';
import type { Db } from '../../db/connection.ts';
import { lockCompanies } from '../../db/statements/companies.ts';
import type { Environment } from '../../environments/service/input.ts';
import { environmentService } from '../../environments/service/index.ts';
import { databaseUrlOption, parseId } from '../settings.ts';
import { withDatabase } from '../with-database.ts';
import { addConfigOptions, changedConfig, configFields } from './config-flags.ts';
import type { ConfigFlags } from './config-flags.ts';
import { findEnvironment } from './find-environment.ts';
import { operatorOf } from './operator.ts';
import { showEnvironment } from './show-environment.ts';

interface UpdateFlags extends ConfigFlags {
  databaseUrl?: string;
  name?: string;
  description?: string;
  json: boolean;
}

/** `lessor environments update` */
export function updateEnvironmentCommand(): Command {
  const command = new Command('update')
    .description('change what is given of an environment, and nothing else; leases granted later have it so')
    .argument('<environment>', 'id of the environment', parseId)
    .addOption(databaseUrlOption())
    .option('--name <name>', 'what people call it')
    .option('--description <text>', 'what it is for');
  return addConfigOptions(command)
    .option('--json', 'print the environment as JSON instead of a sentence', false)
    .action(updateEnvironment);
}

async function updateEnvironment(id: string, { databaseUrl, json, ...changes }: UpdateFlags): Promise<void> {
  if (Object.keys(changes).length === 0) {
    throw new InvalidConfigurationError('there is nothing to change: give --name, --description or part of the config');
  }
  const environment = await withDatabase(databaseUrl, (db) => change(db, id, changes));
  process.stdout.write(showEnvironment('updated', environment, { json }));
}

async function change(db: Db, id: string, changes: Omit<UpdateFlags, 'databaseUrl' | 'json'>): Promise<Environment> {
  const { name, description, ...configFlags } = changes;
  const { companyId, driver } = await findEnvironment(db, id);
  const fields = await configFields(configFlags, driver, process.env);
  // Under the company's lock: of two who change different fields neither undoes the other's.
  return db.transaction(async (tx) => {
    await lockCompanies(tx, [companyId], 'known');
    const { config: before } = await findEnvironment(tx, id);
    const config = Object.keys(fields).length === 0 ? undefined : changedConfig(before, fields);
    const service = environmentService(tx, { actor: operatorOf(process.env) });
    return (await service.update(id, { name, description, config }))!;
  });
}
