import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { CompanyStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { precompile } from '../pipeline.ts';
import type { PrecompiledStatement } from '../pipeline.ts';
import { ACTOR_PLACEHOLDERS } from './activity.ts';
import type { Actor, ActorInStatement } from './activity.ts';
import { arrayLiteral, arrayParam, uuidArray } from './parameters.ts';

/** Whether a company that is not registered is registered with its first message, or rejected. */
export type CompanyRegistration = 'auto' | 'known';

/**
 * Takes the companies' locks, which a transaction does before it reads anything else: operations of one company are
 * serialized (any-order, fenced).
 *
 * Locks are taken in the order of ids, and new companies are inserted, in that order too, before any lock is taken, so
 * that two transactions cannot deadlock. `no key update` does not block foreign keys that refer to the company.
 *
 * @returns the status of every company that is registered
 */
export async function lockCompanies(
  tx: Transaction,
  companyIds: readonly string[],
  registration: CompanyRegistration,
): Promise<Map<string, CompanyStatus>> {
  const ids = uuidArray(companyIds);
  if (registration === 'auto') await tx.execute(insertInOrder(ids));
  const companies = await queryRows<{ id: string; status: CompanyStatus }>(tx, lockInOrder(ids));
  return new Map(companies.map((company) => [company.id, company.status]));
}

/**
 * Takes the locks of those companies that are registered, in the same order, in a pipelined transaction. Its later
 * statements must check {@link isLocked}: they may see a company whose registration committed after this statement's
 * snapshot, and which is not locked.
 */
export function lockKnownCompanies(companyIds: readonly string[]): PrecompiledStatement {
  return bindLock({ ids: arrayLiteral(companyIds) });
}

/** Registers companies in a pipelined transaction, before any company is locked in it. */
export function registerCompanies(companyIds: readonly string[]): PrecompiledStatement {
  return bindRegistration({ ids: arrayLiteral(companyIds) });
}

function insertInOrder(ids: SQL): SQL {
  return sql`
    insert into lessor.companies (id)
    select id from unnest(${ids}) as company (id) order by id
    on conflict (id) do nothing`;
}

function lockInOrder(ids: SQL): SQL {
  return sql`select id, status from lessor.companies where id = any(${ids}) order by id for no key update`;
}

/** Whether the transaction holds the lock by {@link lockKnownCompanies}. `is true` makes it a hashed lookup. */
export const isLocked = (companyId: SQL) => sql`(${companyId} in (
  select unnest(string_to_array(current_setting('lessor.locked_companies'), ','))::uuid)) is true`;

const bindLock = precompile(sql`
  select set_config('lessor.locked_companies', coalesce(string_agg(id::text, ','), ''), true) as locked
  from (${lockInOrder(arrayParam('uuid', 'ids'))}) locked`);
const bindRegistration = precompile(insertInOrder(arrayParam('uuid', 'ids')));

/**
 * Creates the `Local` environment of each company that has none, and records `environment.created` for it
 * (always-audited). An existing one, archived or renamed by an operator, is unchanged (one-local: the partial unique index
 * decides).
 */
export async function ensureLocalEnvironments(
  tx: Transaction,
  companyIds: readonly string[],
  actor: Actor,
): Promise<void> {
  await tx.execute(insertMissingLocals(sql`unnest(${uuidArray(companyIds)}) as company (id)`, actor));
}

/** Does the same in a pipelined transaction, for those of the companies that are active and locked. */
export function ensureLocalsOfLocked(companyIds: readonly string[], actor: Actor): PrecompiledStatement {
  return bindEnsureLocals({ ids: arrayLiteral(companyIds), actorType: actor.type, actorId: actor.id });
}

function insertMissingLocals(companies: SQL, actor: ActorInStatement): SQL {
  return sql`
    with created as (
      insert into lessor.environments (company_id, name, description, driver)
      select id, 'Local', 'The machine that the company''s heartbeat service runs on', 'local'
      from ${companies}
      where not exists (
        select from lessor.environments existing where existing.company_id = company.id and existing.driver = 'local')
      on conflict (company_id) where driver = 'local' do nothing
      returning id, company_id, name, driver
    )
    insert into lessor.activity_log (company_id, actor_type, actor_id, action, entity_type, entity_id, details)
    select company_id, ${actor.type}, ${actor.id}, 'environment.created', 'environment', id,
      jsonb_build_object('name', name, 'driver', driver)
    from created`;
}

const activeAndLocked = sql`(
        select id from lessor.companies
        where id = any(${arrayParam('uuid', 'ids')}) and status = 'active' and ${isLocked(sql`id`)}) company`;
const bindEnsureLocals = precompile(insertMissingLocals(activeAndLocked, ACTOR_PLACEHOLDERS));
