import { sql } from 'drizzle-orm';
import type { Transaction } from '../connection.ts';
import type { Actor } from './activity.ts';
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
  await tx.execute(sql`
    with created as (
      insert into lessor.environments (company_id, name, description, driver)
      select id, 'Local', 'The machine that the company''s heartbeat service runs on', 'local'
      from unnest(${uuidArray(companyIds)}) as company (id)
      where not exists (
        select from lessor.environments existing where existing.company_id = company.id and existing.driver = 'local')
      on conflict (company_id) where driver = 'local' do nothing
      returning id, company_id, name, driver
    )
    insert into lessor.activity_log (company_id, actor_type, actor_id, action, entity_type, entity_id, details)
    select company_id, ${actor.type}, ${actor.id}, 'environment.created', 'environment', id,
      jsonb_build_object('name', name, 'driver', driver)
    from created`);
}
