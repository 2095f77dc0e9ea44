import { z } from 'zod';
import { idSchema } from './payloads.ts';
import type { LeaseStatus } from './vocabulary.ts';

/**
 * What crosses `lease-release`: a lease waits for its cleanup. Workers tell it each other, so it is no part of what is
 * published for clients in other languages.
 */
export const leaseReleaseSchema = z.strictObject({
  version: z.literal(1),
  companyId: idSchema,
  leaseId: idSchema,
});
export type LeaseRelease = z.infer<typeof leaseReleaseSchema>;

/** The return value of a `lease-release` job: the lease as it stands after it. */
export interface LeaseReleaseResult {
  leaseId: string;
  status: LeaseStatus;
}
