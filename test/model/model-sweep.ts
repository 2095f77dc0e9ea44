import { abandon, canExpire, endAsItsRun, expire, isAbandoned, isOrphaned } from './model-leases.ts';
import type { Model, ModelLease } from './model.ts';

/** Whether the sweep would end the lease. */
export const isDue = (model: Model, lease: ModelLease): boolean =>
  [isOrphaned, canExpire, isAbandoned].some((isToEnd) => isToEnd(model, lease));

/**
 * Ends what should have ended: first orphaned leases, as their run ended, then expired ones, then those whose acquisition is
 * never completed.
 */
export function sweep(
  model: Model,
  only?: readonly string[],
): { orphaned: number; expired: number; abandoned: number } {
  const leases = model.leases.filter(({ id }) => only === undefined || only.includes(id));
  const endAll = (
    isToEnd: (model: Model, lease: ModelLease) => boolean,
    end: (model: Model, lease: ModelLease) => unknown,
  ): number => {
    const those = leases.filter((lease) => isToEnd(model, lease));
    for (const lease of those) end(model, lease);
    return those.length;
  };
  return {
    orphaned: endAll(isOrphaned, endAsItsRun),
    expired: endAll(canExpire, expire),
    abandoned: endAll(isAbandoned, abandon),
  };
}
