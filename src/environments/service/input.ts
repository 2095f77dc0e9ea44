import { z } from 'zod';
import {
  CLEANUP_STATUSES,
  ENVIRONMENT_DRIVERS,
  ENVIRONMENT_STATUSES,
  LEASE_POLICIES,
  LEASE_STATUSES,
  MAXIMUM_NAME_LENGTH,
  MAXIMUM_REASON_LENGTH,
  idSchema,
  metadataSchema,
  storableText,
} from '../../contracts/index.ts';
import type { environmentLeases, environments } from '../../db/schema.ts';

/** A place where runs execute: the company's `Local`, or another one by its driver. */
export type Environment = typeof environments.$inferSelect;

/** The record that one run holds one environment. */
export type EnvironmentLease = typeof environmentLeases.$inferSelect;

export const environmentFiltersSchema = z.strictObject({
  status: z.enum(ENVIRONMENT_STATUSES).optional(),
  driver: z.enum(ENVIRONMENT_DRIVERS).optional(),
});
export type EnvironmentFilters = z.input<typeof environmentFiltersSchema>;

/** A new environment. A company's only `local` one is created by `ensureLocalEnvironment`, or here. */
export const newEnvironmentSchema = z.strictObject({
  name: storableText(MAXIMUM_NAME_LENGTH),
  description: storableText(MAXIMUM_REASON_LENGTH).nullish(),
  driver: z.enum(ENVIRONMENT_DRIVERS),
  config: metadataSchema.optional(),
  metadata: metadataSchema.nullish(),
});
export type NewEnvironment = z.input<typeof newEnvironmentSchema>;

/** Changes of an environment. Its driver and company cannot change: leases were granted for them. */
export const environmentChangesSchema = z.strictObject({
  name: storableText(MAXIMUM_NAME_LENGTH).optional(),
  description: storableText(MAXIMUM_REASON_LENGTH).nullish(),
  status: z.enum(ENVIRONMENT_STATUSES).optional(),
  config: metadataSchema.optional(),
  metadata: metadataSchema.nullish(),
});
export type EnvironmentChanges = z.input<typeof environmentChangesSchema>;

/** A lease that a service acquires on its own. `expiresAt` defaults to now + the default ttl. */
export const leaseRequestSchema = z.strictObject({
  companyId: idSchema,
  environmentId: idSchema,
  heartbeatRunId: idSchema.nullish(),
  executionWorkspaceId: idSchema.nullish(),
  issueId: idSchema.nullish(),
  leasePolicy: z.enum(LEASE_POLICIES).optional(),
  provider: storableText(MAXIMUM_NAME_LENGTH).nullish(),
  providerLeaseId: storableText(MAXIMUM_NAME_LENGTH).nullish(),
  expiresAt: z.date().nullish(),
  metadata: metadataSchema.nullish(),
});
export type LeaseRequest = z.input<typeof leaseRequestSchema>;

export const fencingTokenSchema = z.int().positive();

export const leaseFiltersSchema = z.strictObject({ status: z.enum(LEASE_STATUSES).optional() });
export type LeaseFilters = z.input<typeof leaseFiltersSchema>;

/** What a service may end a lease as; `expired` only past its `expires_at`. */
export const RELEASE_STATUSES = ['released', 'failed', 'expired', 'retained'] as const;
export const releaseStatusSchema = z.enum(RELEASE_STATUSES);
export type ReleaseStatus = z.infer<typeof releaseStatusSchema>;

export const releaseDetailsSchema = z.strictObject({
  failureReason: storableText(MAXIMUM_REASON_LENGTH).optional(),
  cleanupStatus: z.enum(CLEANUP_STATUSES).optional(),
});
export type ReleaseDetails = z.input<typeof releaseDetailsSchema>;
