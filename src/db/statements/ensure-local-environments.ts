import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import { precompile } from '../precompiled-statement.ts';
import type { PrecompiledStatement } from '../precompiled-statement.ts';
import type { Transaction } from '../connection.ts';
import { ACTOR_PLACEHOLDERS } from './activity.ts';
import type { Actor, ActorInStatement } from './activity.ts';
import { lockedCompanies } from './lock-companies.ts';
import { uuidArray } from './parameters.ts';

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

/** The same for those companies that are active and locked, to be sent in one go. */
export function ensureLocalsOfLocked(actor: Actor): PrecompiledStatement {
  return bind({ actorType: actor.type, actorId: actor.id });
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

const activeOnes = sql`(
        select id from lessor.companies join (${lockedCompanies}) locked using (id) where status = 'active') company`;
const bind = precompile(ensuredFor(activeOnes, ACTOR_PLACEHOLDERS));
