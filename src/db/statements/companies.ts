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

/** Whether a company that was never seen before is registered or unknown. */
export type CompanyRegistration = 'auto' | 'known';

/**
 * Takes the locks under which everything else of a transaction happens: per company, operations are serialized.
 *
 * Locks are taken in the order of ids, and new companies are inserted (in that order too) before any existing one is
 * locked, so that two transactions cannot wait for each other. `no key update` lets rows that refer to the company
 * be inserted elsewhere meanwhile.
 *
 * @returns the status of every company that is registered
 */
export async function lockCompanies(
  tx: Transaction,
  companyIds: readonly string[],
  registration: CompanyRegistration,
): Promise<Map<string, CompanyStatus>> {
  const ids = uuidArray(companyIds);
  if (registration === 'auto') await tx.execute(registeredInOrder(ids));
  const companies = await queryRows<{ id: string; status: CompanyStatus }>(tx, lockedInOrder(ids));
  return new Map(companies.map((company) => [company.id, company.status]));
}

/**
 * Takes the locks of those companies that are registered, in the same order. What follows in the transaction has to ask
 * {@link isLocked}: of a company that is being registered this statement sees nothing, but the next one may.
 */
export function lockKnownCompanies(companyIds: readonly string[]): PrecompiledStatement {
  return bindLock({ ids: arrayLiteral(companyIds) });
}

/** Registers those companies that are not, to be carried out before any of them is locked. */
export function registerCompanies(companyIds: readonly string[]): PrecompiledStatement {
  return bindRegistration({ ids: arrayLiteral(companyIds) });
}

function registeredInOrder(ids: SQL): SQL {
  return sql`
    insert into lessor.companies (id)
    select id from unnest(${ids}) as seen (id) order by id
    on conflict (id) do nothing`;
}

function lockedInOrder(ids: SQL): SQL {
  return sql`select id, status from lessor.companies where id = any(${ids}) order by id for no key update`;
}

/** Whether the transaction took the company's lock with {@link lockKnownCompanies}. `is true` makes it a hashed lookup. */
export const isLocked = (companyId: SQL) => sql`(${companyId} in (
  select unnest(string_to_array(current_setting('lessor.locked_companies'), ','))::uuid)) is true`;

const bindLock = precompile(sql`
  select set_config('lessor.locked_companies', coalesce(string_agg(id::text, ','), ''), true) as locked
  from (${lockedInOrder(arrayParam('uuid', 'ids'))}) locked`);
const bindRegistration = precompile(registeredInOrder(arrayParam('uuid', 'ids')));

/**
 * Gives each company its `Local` environment where it has none, telling `environment.created` for each one made.
 * One that exists, archived or renamed by an operator, is left untouched (one-local: the partial unique index decides).
 */
export async function ensureLocalEnvironments(
  tx: Transaction,
  companyIds: readonly string[],
  actor: Actor,
): Promise<void> {
  await tx.execute(ensuredFor(sql`unnest(${uuidArray(companyIds)}) as company (id)`, actor));
}

/** Does the same, in a pipelined transaction, for those of the companies that are active and locked. */
export function ensureLocalsOfLocked(companyIds: readonly string[], actor: Actor): PrecompiledStatement {
  return bindEnsureLocals({ ids: arrayLiteral(companyIds), actorType: actor.type, actorId: actor.id });
}

function ensuredFor(companies: SQL, actor: ActorInStatement): SQL {
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
const bindEnsureLocals = precompile(ensuredFor(activeAndLocked, ACTOR_PLACEHOLDERS));
