import { Command } from 'commander';
import { migrate } from '../db/migrate.ts';
import { migrateQueue } from '../queues/migrate-queue.ts';
import { checkedDatabaseUrl, checkedQueueUrl, databaseUrlOption, queueUrlOption } from './settings.ts';

/** `lessor migrate`: brings tables up to date. */
export function migrateCommand(): Command {
  return new Command('migrate')
    .description('bring the tables up to date, and BullMQ’s where the queues live in Postgres; safe to race')
    .addOption(databaseUrlOption())
    .addOption(queueUrlOption())
    .action(async (flags: { databaseUrl?: string; queueUrl?: string }) => {
      await migrate(checkedDatabaseUrl(flags.databaseUrl));
      process.stdout.write('Lessor’s tables are up to date.\n');
      const queueIsPostgres = flags.queueUrl !== undefined && (await migrateQueue(checkedQueueUrl(flags.queueUrl)));
      if (queueIsPostgres) process.stdout.write('BullMQ’s tables are up to date.\n');
    });
}
