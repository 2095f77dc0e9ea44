import { Command, Option } from 'commander';
import { ACTIVITY_ACTIONS, ENVIRONMENT_DRIVERS, ENVIRONMENT_STATUSES, LEASE_STATUSES } from '../contracts/index.ts';
import { createDb } from '../db/connection.ts';
import type { Db } from '../db/connection.ts';
import { assertMigrated } from '../db/migrate.ts';
import { listActivity, listEnvironments, listLeases } from '../db/listings.ts';
import type { ActivityListFilters, EnvironmentListFilters, LeaseListFilters } from '../db/listings.ts';
import { checkedDatabaseUrl, databaseUrlOption, parseCount, parseId } from './settings.ts';
import { renderRows, showInstant } from './table.ts';
import type { Columns } from './table.ts';

/** A list read from the database. */
type List<Filters, Row> = (db: Db, filters: Filters) => Promise<Row[]>;

interface ListingFlags {
  databaseUrl?: string;
  json: boolean;
}

/** `lessor leases` */
export function leasesCommand(): Command {
  const command = listingCommand<LeaseListFilters, Awaited<ReturnType<typeof listLeases>>[number]>(
    'leases',
    'list leases, newest first',
    listLeases,
    {
      lease: (lease) => lease.id,
      run: (lease) => lease.heartbeatRunId ?? '',
      status: (lease) => lease.status,
      token: (lease) => String(lease.fencingToken),
      acquired: (lease) => showInstant(lease.acquiredAt),
      'expires / ended': (lease) => showInstant(lease.releasedAt ?? lease.expiresAt),
      reason: (lease) => lease.failureReason ?? '',
    },
  );
  return command
    .addOption(idOption('--environment <id>', 'only leases on this environment'))
    .addOption(idOption('--run <id>', 'only leases of this run'))
    .addOption(new Option('--status <status>', 'only leases with this status').choices(LEASE_STATUSES));
}

/** `lessor environments` */
export function environmentsCommand(): Command {
  const command = listingCommand<EnvironmentListFilters, Awaited<ReturnType<typeof listEnvironments>>[number]>(
    'environments',
    'list environments',
    listEnvironments,
    {
      environment: (environment) => environment.id,
      company: (environment) => environment.companyId,
      name: (environment) => environment.name,
      driver: (environment) => environment.driver,
      status: (environment) => environment.status,
      created: (environment) => showInstant(environment.createdAt),
    },
  );
  return command
    .addOption(new Option('--driver <driver>', 'only environments of this kind').choices(ENVIRONMENT_DRIVERS))
    .addOption(new Option('--status <status>', 'only environments with this status').choices(ENVIRONMENT_STATUSES));
}

/** `lessor activity` */
export function activityCommand(): Command {
  const command = listingCommand<ActivityListFilters, Awaited<ReturnType<typeof listActivity>>[number]>(
    'activity',
    'list what happened, newest first',
    listActivity,
    {
      at: (event) => showInstant(event.createdAt),
      action: (event) => event.action,
      entity: (event) => event.entityId,
      run: (event) => event.runId ?? '',
      actor: (event) => event.actorId,
      reason: ({ details }) =>
        [details['failureReason'], details['reason']].find((reason) => typeof reason === 'string') ?? '',
    },
  );
  return command
    .addOption(idOption('--run <id>', 'only events of this run'))
    .addOption(idOption('--entity <id>', 'only events of this lease, environment or run'))
    .addOption(new Option('--action <action>', 'only events of this kind').choices(ACTIVITY_ACTIONS));
}

function listingCommand<Filters, Row>(
  name: string,
  description: string,
  list: List<Filters, Row>,
  columns: Columns<Row>,
): Command {
  return new Command(name)
    .description(description)
    .addOption(databaseUrlOption())
    .addOption(idOption('--company <id>', 'only this company'))
    .addOption(new Option('--limit <n>', 'at most so many').default(50).argParser(parseCount))
    .option('--json', 'print one JSON array instead of a table', false)
    .action(async ({ databaseUrl, json, ...filters }: ListingFlags & Filters) => {
      const db = createDb(checkedDatabaseUrl(databaseUrl), { maximumConnections: 1 });
      try {
        await assertMigrated(db);
        // The flags that are left are the filters: each command adds the options of its own list.
        process.stdout.write(renderRows(await list(db, filters as unknown as Filters), columns, { json }));
      } finally {
        await db.close();
      }
    });
}

function idOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseId);
}
