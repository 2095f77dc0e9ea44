import { sql } from 'drizzle-orm';
import { precompile } from '../precompiled-statement.ts';
import type { PrecompiledStatement } from '../precompiled-statement.ts';
import { isLive } from './ended-leases.ts';
import { isLocked } from './lock-companies.ts';
import { column, arrayLiteral } from './parameters.ts';
import type { RunLease, Renewal } from './renew-leases.ts';

/** A row of what {@link renewSingleLeases} returns. */
export type RenewedLease = Omit<RunLease, 'status'>;

/**
 * Does for the usual renewal what `renewLeases` and `readRunLeases` do for any: extends the one lease that the run ever
 * had, which is active and has not lapsed, so that there is nothing to tell. Any other run, and one whose company's lock
 * is not held, is left alone: its row is missing in what is returned. Each run id may be given once.
 */
export function renewSingleLeases(renewals: readonly Renewal[]): PrecompiledStatement {
  return bind({
    companyId: arrayLiteral(renewals.map((renewal) => renewal.companyId)),
    runId: arrayLiteral(renewals.map((renewal) => renewal.runId)),
    ttlSeconds: arrayLiteral(renewals.map((renewal) => renewal.ttlSeconds)),
  });
}

const bind = precompile(sql`
    update lessor.environment_leases lease set
      expires_at = greatest(expires_at,
        statement_timestamp() + make_interval(secs => coalesce(wanted.ttl_seconds, lease.ttl_seconds))),
      last_used_at = statement_timestamp(),
      updated_at = statement_timestamp()
    from unnest(
      ${column('uuid', 'companyId')},
      ${column('uuid', 'runId')},
      ${column('int', 'ttlSeconds')}
    ) as wanted (company_id, run_id, ttl_seconds)
    where lease.heartbeat_run_id = wanted.run_id and lease.company_id = wanted.company_id
      and ${isLive} and lease.status <> 'pending' and lease.expires_at > statement_timestamp()
      and ${isLocked(sql`wanted.company_id`)}
      and not exists (select from lessor.environment_leases other
        where other.heartbeat_run_id = wanted.run_id and other.id <> lease.id)
    returning lease.id, lease.heartbeat_run_id as "runId", to_json(lease.expires_at) as "expiresAt"`);
