import { Command } from 'commander';
import { payloadJsonSchemas } from '../contracts/index.ts';
import { checkReadiness } from '../api/health.ts';
import { printableJson } from '../lib/printable.ts';
import { migrate } from '../db/migrate.ts';
import { migrateQueue } from '../queues/backends/postgres.ts';
import { addSettings, databaseSettings, queueSettings, readSettings } from './options.ts';

const STORES = { databaseUrl: databaseSettings.databaseUrl, queueUrl: queueSettings.queueUrl };

/** A queue on Redis has no tables, so its URL may be left out. */
const MIGRATED = { ...STORES, queueUrl: STORES.queueUrl.optional() };

/** `lessor migrate` */
export function migrateCommand(): Command {
  const command = new Command('migrate').description(
    'migrate the tables of Lessor, and those of BullMQ if the queue is in Postgres; safe to run concurrently',
  );
  return addSettings(command, MIGRATED).action(async (options: object) => {
    const { databaseUrl, queueUrl } = readSettings(MIGRATED, options);
    await migrate(databaseUrl);
    process.stdout.write('Lessor’s tables are up to date.\n');
    const isQueueInPostgres = queueUrl !== undefined && (await migrateQueue(queueUrl));
    if (isQueueInPostgres) process.stdout.write('BullMQ’s tables are up to date.\n');
  });
}

/** `lessor health`: for health checks of containers. */
export function healthCommand(): Command {
  const command = new Command('health').description('check that Postgres and the queue answer: exit 1 if one does not');
  return addSettings(command, STORES).action(async (options: object) => {
    const readiness = await checkReadiness(readSettings(STORES, options));
    process.stdout.write(`${printableJson(readiness)}\n`);
    if (readiness.status !== 'ready') process.exitCode = 1;
  });
}

/** `lessor schema`: the contract for clients in other languages. */
export function schemaCommand(): Command {
  return new Command('schema').description('print the JSON Schema of every payload, by queue').action(() => {
    process.stdout.write(`${JSON.stringify(payloadJsonSchemas(), null, 2)}\n`);
  });
}
