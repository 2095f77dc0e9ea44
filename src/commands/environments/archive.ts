import { Command } from 'commander';
import { environmentService } from '../../environments/service/index.ts';
import { databaseUrlOption, parseId } from '../settings.ts';
import { withDatabase } from '../with-database.ts';
import { findEnvironment } from './find-environment.ts';
import { operatorOf } from './operator.ts';
import { showEnvironment } from './show-environment.ts';

/** `lessor environments archive` */
export function archiveEnvironmentCommand(): Command {
  return new Command('archive')
    .description('grant no new lease on an environment; those it has run their course')
    .argument('<environment>', 'id of the environment', parseId)
    .addOption(databaseUrlOption())
    .option('--json', 'print the environment as JSON instead of a sentence', false)
    .action(async (id: string, { databaseUrl, json }: { databaseUrl?: string; json: boolean }) => {
      const environment = await withDatabase(databaseUrl, async (db) => {
        await findEnvironment(db, id);
        return environmentService(db, { actor: operatorOf(process.env) }).archive(id);
      });
      process.stdout.write(showEnvironment('archived', environment!, { json }));
    });
}
