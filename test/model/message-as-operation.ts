import { randomUUID } from 'node:crypto';
import type { Sql } from 'postgres';
import type { RunStarted } from '../../src/contracts/index.ts';
import type { Operation } from '../../src/environments/operations/operation.ts';
import { runFinished, runHeartbeat, runStarted } from '../support/factories.ts';
import { finish, release, renew, start } from '../support/operations.ts';
import { DRIVER_FAILURE, DRIVER_REJECTION, providerIdFor } from './model-drivers.ts';
import type { LeaseMessage } from './model-drivers.ts';
import { foreignTo } from './model-messages.ts';
import type { Message, RunMessage, Start } from './model-messages.ts';
import type { Location } from './model.ts';
import type { Names } from './names.ts';

/** The ids of what a message names by number. */
export interface Directory {
  names: Names;
  sql: Sql;
  environmentId: (company: number, location: Location) => Promise<string | undefined>;
}

/** The operation that a worker makes of a message. */
export function operationOf(message: Message, directory: Directory): Promise<Operation> {
  return 'lease' in message ? ofLease(message, directory) : ofRun(message, directory);
}

async function ofRun(message: RunMessage, directory: Directory): Promise<Operation> {
  const { companies, runs } = directory.names;
  const about = { companyId: companies[message.company]!, runId: runs[message.run]! };
  if (message.kind === 'start')
    return start(runStarted({ ...about, ...(await requestedOptionsOf(message, directory)) }));
  if (message.kind === 'renew') {
    return renew(runHeartbeat(about, message.ttl === undefined ? {} : { ttlSeconds: message.ttl }));
  }
  const { status, reason } = message;
  return finish(runFinished(about, { status, ...(reason === undefined ? {} : { failureReason: reason }) }));
}

async function requestedOptionsOf(
  { company, workspace, policy, ttl, named }: Start,
  { names, environmentId }: Directory,
): Promise<Partial<RunStarted>> {
  const requestedOptions: Partial<RunStarted> = {};
  if (workspace !== undefined) requestedOptions.executionWorkspaceId = names.workspaces[workspace]!;
  if (policy !== undefined) requestedOptions.leasePolicy = policy;
  if (ttl !== undefined) requestedOptions.ttlSeconds = ttl;
  if (named === undefined) return requestedOptions;
  const owner = named === 'foreign' ? foreignTo(company, names.companies.length) : company;
  const known = named === 'unknown' ? undefined : await environmentId(owner, named === 'host' ? 'host' : 'local');
  return { ...requestedOptions, environment: { issue: known ?? randomUUID() } };
}

async function ofLease(message: LeaseMessage, { names, sql }: Directory): Promise<Operation> {
  const { kind } = message;
  const about = { companyId: names.companies[message.company]!, leaseId: names.leaseNamed(message.lease) };
  if (kind === 'release') return release({ version: 1, ...about });
  if (kind === 'begin-acquiring' || kind === 'cleaned-up') return { kind, payload: about };
  if (kind === 'acquired') {
    const [lease] = await sql<[{ adopted: string | null }]>`
      select provider_lease_id as "adopted" from lessor.environment_leases where id = ${about.leaseId}`;
    return { kind, payload: { ...about, providerLeaseId: lease.adopted ?? providerIdFor(message.lease) } };
  }
  const failure = { ...about, ...DRIVER_FAILURE, isFinal: message.isFinal };
  if (kind === 'not-cleaned-up') return { kind, payload: failure };
  const rejection = message.isRejected ? { code: DRIVER_REJECTION, reason: 'not the key of before' } : undefined;
  return { kind, payload: { ...failure, isOver: message.isOver, rejection } };
}
