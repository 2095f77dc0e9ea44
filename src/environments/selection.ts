import type { Refusal, RunStarted } from '../contracts/index.ts';
import type { FoundPlacement } from '../db/statements/read-placements.ts';
import { isLeasable } from './drivers/registry.ts';

/** The environment that a run names, the most specific one first; undefined for the company's `Local`. */
export function namedEnvironment(run: Pick<RunStarted, 'environment'>): string | undefined {
  return run.environment?.issue ?? run.environment?.project ?? run.environment?.agent;
}

/** Why no lease on the environment can be granted in the company; undefined when one can. */
export function refusalOfEnvironment(
  environment: FoundPlacement['environment'],
  companyId: string,
  environmentId: string | undefined,
): Refusal | undefined {
  if (environment === null) {
    return { code: 'unknown_environment', reason: `there is no environment ${environmentId ?? 'Local'}` };
  }
  if (environment.companyId !== companyId) {
    return { code: 'foreign_environment', reason: `environment ${environment.id} belongs to another company` };
  }
  if (environment.status === 'archived') {
    return { code: 'environment_archived', reason: `environment ${environment.id} is archived` };
  }
  return undefined;
}

/** Why a worker cannot lease the environment itself, as a service could that does its own provisioning. */
export function refusalOfDriver(environment: FoundPlacement['environment']): Refusal | undefined {
  if (environment === null || isLeasable(environment.driver)) return undefined;
  return {
    code: 'driver_unavailable',
    reason: `environment ${environment.id} is of the kind ${environment.driver}, for which this version has no driver`,
  };
}
