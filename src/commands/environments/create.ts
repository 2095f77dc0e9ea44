import { Command, Option } from 'commander';
import { ENVIRONMENT_DRIVERS } from '../../contracts/index.ts';
import type { EnvironmentDriver } from '../../contracts/index.ts';
import { environmentService } from '../../environments/service/index.ts';
import { databaseUrlOption, parseId } from '../settings.ts';
import { withDatabase } from '../with-database.ts';
import { addConfigOptions, changedConfig, configFields } from './config-flags.ts';
import type { ConfigFlags } from './config-flags.ts';
import { operatorOf } from './operator.ts';
import { showEnvironment } from './show-environment.ts';

interface CreateFlags extends ConfigFlags {
  databaseUrl?: string;
  company: string;
  name: string;
  driver: EnvironmentDriver;
  description?: string;
  json: boolean;
}

/** `lessor environments create` */
export function createEnvironmentCommand(): Command {
  const command = new Command('create')
    .description('make an environment in which a company’s runs can execute')
    .addOption(databaseUrlOption())
    .addOption(new Option('--company <id>', 'whose it is').argParser(parseId).makeOptionMandatory())
    .addOption(new Option('--name <name>', 'what people call it').makeOptionMandatory())
    .addOption(new Option('--driver <driver>', 'its kind').choices(ENVIRONMENT_DRIVERS).makeOptionMandatory())
    .option('--description <text>', 'what it is for');
  return addConfigOptions(command)
    .option('--json', 'print the environment as JSON instead of a sentence', false)
    .action(createEnvironment);
}

async function createEnvironment(flags: CreateFlags): Promise<void> {
  const { company, name, driver, description } = flags;
  const config = changedConfig({}, await configFields(flags, driver, process.env));
  const environment = await withDatabase(flags.databaseUrl, (db) =>
    environmentService(db, { actor: operatorOf(process.env) }).create(company, { name, driver, description, config }),
  );
  process.stdout.write(showEnvironment('created', environment, flags));
}
