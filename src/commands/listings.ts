import { Command, Option } from 'commander';
import { z } from 'zod';
import { ACTIVITY_ACTIONS, ENVIRONMENT_DRIVERS, ENVIRONMENT_STATUSES, LEASE_STATUSES } from '../contracts/index.ts';
import type { Db } from '../db/connection.ts';
import { listActivity, listEnvironments, listLeases } from '../db/listings.ts';
import type { ActivityListFilters, EnvironmentListFilters, LeaseListFilters } from '../db/listings.ts';
import { setting } from '../lib/settings.ts';
import { idOption } from './arguments.ts';
import { addSettings, databaseSettings, readSettings } from './options.ts';
import { renderRows, showInstant, terminalOf } from './table.ts';
import type { Column } from './table.ts';
import { withReadDatabase } from './with-database.ts';

/** A list read from the database. */
type List<Filters, Row> = (db: Db, filters: Filters) => Promise<Row[]>;

const SETTINGS = {
  ...databaseSettings,
  limit: setting(z.int().min(1), {
    flag: '--limit <n>',
    description: 'most rows to list',
    example: '50',
  }).default(50),
};

/** `lessor leases` */
export function leasesCommand(): Command {
  const command = listingCommand<LeaseListFilters, Awaited<ReturnType<typeof listLeases>>[number]>(
    'leases',
    'list leases, newest first',
    listLeases,
    [
      { heading: 'lease', show: (lease) => lease.id, isId: true },
      { heading: 'company', show: (lease) => lease.companyId, isId: true },
      { heading: 'run', show: (lease) => lease.heartbeatRunId ?? '', isId: true },
      { heading: 'status', show: (lease) => lease.status },
      { heading: 'token', show: (lease) => String(lease.fencingToken) },
      { heading: 'acquired', show: (lease) => showInstant(lease.acquiredAt) },
      { heading: 'expires / ended', show: (lease) => showInstant(lease.releasedAt ?? lease.expiresAt) },
      { heading: 'reason', show: (lease) => lease.failureReason ?? '' },
    ],
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
    [
      { heading: 'environment', show: (environment) => environment.id, isId: true },
      { heading: 'company', show: (environment) => environment.companyId, isId: true },
      { heading: 'name', show: (environment) => environment.name },
      { heading: 'driver', show: (environment) => environment.driver },
      { heading: 'status', show: (environment) => environment.status },
      { heading: 'created', show: (environment) => showInstant(environment.createdAt) },
    ],
  );
  return command
    .addOption(new Option('--driver <driver>', 'only environments with this driver').choices(ENVIRONMENT_DRIVERS))
    .addOption(new Option('--status <status>', 'only environments with this status').choices(ENVIRONMENT_STATUSES));
}

/** `lessor activity` */
export function activityCommand(): Command {
  const command = listingCommand<ActivityListFilters, Awaited<ReturnType<typeof listActivity>>[number]>(
    'activity',
    'list activity events, newest first',
    listActivity,
    [
      { heading: 'at', show: (event) => showInstant(event.createdAt) },
      { heading: 'action', show: (event) => event.action },
      { heading: 'entity', show: (event) => event.entityId, isId: true },
      { heading: 'run', show: (event) => event.runId ?? '', isId: true },
      { heading: 'actor', show: (event) => event.actorId },
      {
        heading: 'reason',
        show: ({ details }) =>
          [details['failureReason'], details['reason']].find((reason) => typeof reason === 'string') ?? '',
      },
    ],
  );
  return command
    .addOption(idOption('--run <id>', 'only events of this run'))
    .addOption(idOption('--entity <id>', 'only events of this lease, environment or run'))
    .addOption(new Option('--action <action>', 'only events with this action').choices(ACTIVITY_ACTIONS));
}

function listingCommand<Filters, Row>(
  name: string,
  description: string,
  list: List<Filters, Row>,
  columns: readonly Column<Row>[],
): Command {
  // Flags after the name of a subcommand belong to the subcommand.
  const command = new Command(name).description(description).enablePositionalOptions();
  return addSettings(command, SETTINGS)
    .addOption(idOption('--company <id>', 'only this company'))
    .option('--json', 'print one JSON array instead of a table', false)
    .action(async ({ json, ...options }: { json: boolean }) => {
      const { databaseUrl, limit } = readSettings(SETTINGS, options);
      // The other options are the filters: each command adds those of its own list.
      const filters = { ...options, limit } as unknown as Filters;
      const rows = await withReadDatabase(databaseUrl, (db) => list(db, filters));
      process.stdout.write(renderRows(rows, columns, { json, terminal: terminalOf(process.stdout) }));
    });
}
