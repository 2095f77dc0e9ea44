import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { CompanyStatus } from '../../contracts/index.ts';
import { precompile } from '../precompiled-statement.ts';
import type { PrecompiledStatement } from '../precompiled-statement.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { column, arrayLiteral, uuidArray } from './parameters.ts';

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

/** The companies whose locks the transaction took with {@link lockKnownCompanies}. */
export const lockedCompanies = sql`
  select unnest(string_to_array(current_setting('lessor.locked_companies'), ','))::uuid as id`;

/** Whether the transaction took the company's lock with {@link lockKnownCompanies}. Postgres asks a hash table. */
export const isLocked = (companyId: SQL) => sql`(${companyId} in (${lockedCompanies})) is true`;

const bindLock = precompile(sql`
  select set_config('lessor.locked_companies', coalesce(string_agg(id::text, ','), ''), true) as locked
  from (${lockedInOrder(column('uuid', 'ids'))}) locked`);
const bindRegistration = precompile(registeredInOrder(column('uuid', 'ids')));
