import { Command } from 'commander';
import { checkReadiness } from '../api/health.ts';
import { checkedDatabaseUrl, checkedQueueUrl, databaseUrlOption, queueUrlOption } from './settings.ts';

/** `lessor health`: for the healthchecks of containers. */
export function healthCommand(): Command {
  return new Command('health')
    .description('check that Postgres and the queue answer: exit 0 if both do, else 1')
    .addOption(databaseUrlOption())
    .addOption(queueUrlOption())
    .action(async ({ databaseUrl, queueUrl }: { databaseUrl?: string; queueUrl?: string }) => {
      const readiness = await checkReadiness({
        databaseUrl: checkedDatabaseUrl(databaseUrl),
        queueUrl: checkedQueueUrl(queueUrl),
      });
      process.stdout.write(`${JSON.stringify(readiness)}\n`);
      if (readiness.status !== 'ready') process.exitCode = 1;
    });
}
