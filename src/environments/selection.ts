import type { EnvironmentDriver, Rejection, RunStarted } from '../contracts/index.ts';
import type { FoundPlacement } from '../db/statements/read-placements.ts';
import { isWithoutOutsideEffects } from './drivers/outside-effects.ts';

/** Which environment a run gets, and why. */
export interface EnvironmentSelection {
  /** Undefined for the company's `Local`. */
  environmentId: string | undefined;
  /** What decided; stands on the lease as `environmentSelection`, in its metadata. */
  decidedBy: { source: 'issue' | 'project' | 'agent' | 'company'; reason: string };
}

/** The first one named decides, the most specific one first; where none is named it is the company's `Local`. */
export function selectEnvironment({ environment = {} }: Pick<RunStarted, 'environment'>): EnvironmentSelection {
  const { issue, project, agent } = environment;
  if (issue !== undefined) {
    return { environmentId: issue, decidedBy: { source: 'issue', reason: 'the issue names it' } };
  }
  if (project !== undefined) {
    const reason = 'the project names it, and the issue names none';
    return { environmentId: project, decidedBy: { source: 'project', reason } };
  }
  if (agent !== undefined) {
    const reason = 'the agent names it, and neither the issue nor the project names one';
    return { environmentId: agent, decidedBy: { source: 'agent', reason } };
  }
  const reason = 'neither the issue, the project nor the agent names one';
  return { environmentId: undefined, decidedBy: { source: 'company', reason } };
}

/** Which environments a worker leases besides `Local`. */
export interface LeasableEnvironments {
  /** Whether any but `Local` are leased at all: ENABLE_ENVIRONMENTS. */
  enabled: boolean;
  /** The drivers that the worker has. */
  drivers: ReadonlySet<EnvironmentDriver>;
}

/** Why no lease on the environment can be granted in the company; undefined when one can. */
export function rejectionOfEnvironment(
  environment: FoundPlacement['environment'],
  companyId: string,
  environmentId: string | undefined,
): Rejection | undefined {
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
export function rejectionOfDriver(
  environment: FoundPlacement['environment'],
  { enabled, drivers }: LeasableEnvironments,
): Rejection | undefined {
  if (environment === null || isWithoutOutsideEffects(environment.driver)) return undefined;
  const what = `environment ${environment.id} is of the kind ${environment.driver}`;
  if (!enabled) {
    const reason = `${what}, and workers lease only Local ones unless they run with ENABLE_ENVIRONMENTS=true`;
    return { code: 'environments_disabled', reason };
  }
  if (drivers.has(environment.driver)) return undefined;
  return { code: 'driver_unavailable', reason: `${what}, for which this worker has no driver` };
}
