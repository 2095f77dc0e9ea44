import { isDeepStrictEqual } from 'node:util';
import { and, asc, eq, sql } from 'drizzle-orm';
import type { z } from 'zod';
import { RejectedError, idSchema, parse } from '../../contracts/index.ts';
import type { ActivityAction, Metadata } from '../../contracts/index.ts';
import type { Db, Transaction } from '../../db/connection.ts';
import { environments } from '../../db/schema.ts';
import { recordActivity } from '../../db/statements/activity.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { ensureLocalEnvironments, lockCompanies } from '../../db/statements/companies.ts';
import type { DriverConfigs } from '../drivers/driver.ts';
import { environmentChangesSchema, environmentFiltersSchema, newEnvironmentSchema } from './input.ts';
import type { Environment, EnvironmentChanges, EnvironmentFilters, NewEnvironment } from './input.ts';

/** The environments of companies. */
export interface EnvironmentAdministration {
  /** A company's environments, oldest first. */
  list(companyId: string, filters?: EnvironmentFilters): Promise<Environment[]>;
  getById(id: string): Promise<Environment | null>;
  /**
   * Creates an environment and records `environment.created`.
   * @throws {InvalidPayloadError} for a config that the environment's driver could not work with
   * @throws {RejectedError} `not_storable` for a second `local` one of the company (one-local)
   */
  create(companyId: string, environment: NewEnvironment): Promise<Environment>;
  /** Changes an environment and records `environment.updated`; null when there is none. Without a difference nothing is recorded. */
  update(id: string, changes: EnvironmentChanges): Promise<Environment | null>;
  /** Stops new leases on it and records `environment.archived`, once. The leases that it has continue. */
  archive(id: string): Promise<Environment | null>;
  /** The company's `Local`, created if there is none; an archived or renamed one is returned unchanged (one-local). */
  ensureLocalEnvironment(companyId: string): Promise<Environment>;
}

/** @internal */
export function environmentAdministration(db: Db, actor: Actor, configs: DriverConfigs): EnvironmentAdministration {
  return {
    async list(companyId, filters = {}) {
      const { status, driver } = parse(environmentFiltersSchema, filters, 'environment filter');
      return db
        .select()
        .from(environments)
        .where(
          and(
            eq(environments.companyId, parse(idSchema, companyId, 'company id')),
            status === undefined ? undefined : eq(environments.status, status),
            driver === undefined ? undefined : eq(environments.driver, driver),
          ),
        )
        .orderBy(asc(environments.createdAt), asc(environments.id));
    },

    async getById(id) {
      return readEnvironment(db, parse(idSchema, id, 'environment id'));
    },

    async create(companyId, input) {
      const company = parse(idSchema, companyId, 'company id');
      const given = parse(newEnvironmentSchema, input, 'environment');
      const values = { ...given, config: configs.parse(given.driver, given.config ?? {}) };
      return db.transaction(async (tx) => {
        await lockCompanies(tx, [company], 'auto');
        if (values.driver === 'local' && (await readLocalEnvironment(tx, company)) !== undefined) {
          const reason = `company ${company} has its Local environment already`;
          throw new RejectedError({ code: 'not_storable', reason });
        }
        const [created] = await tx
          .insert(environments)
          .values({ companyId: company, ...values })
          .returning();
        await recordEnvironmentEvent(tx, created!, 'environment.created', actor);
        return created!;
      });
    },

    async update(id, changes) {
      return changeEnvironment(db, id, parse(environmentChangesSchema, changes, 'environment changes'), actor, configs);
    },

    async archive(id) {
      return changeEnvironment(db, id, { status: 'archived' }, actor, configs);
    },

    async ensureLocalEnvironment(companyId) {
      const company = parse(idSchema, companyId, 'company id');
      return db.transaction(async (tx) => {
        await lockCompanies(tx, [company], 'auto');
        await ensureLocalEnvironments(tx, [company], actor);
        return (await readLocalEnvironment(tx, company))!;
      });
    },
  };
}

async function readEnvironment(db: Db, id: string): Promise<Environment | null> {
  const [environment] = await db.select().from(environments).where(eq(environments.id, id));
  return environment ?? null;
}

async function readLocalEnvironment(tx: Transaction, companyId: string): Promise<Environment | undefined> {
  const [local] = await tx
    .select()
    .from(environments)
    .where(and(eq(environments.companyId, companyId), eq(environments.driver, 'local')));
  return local;
}

async function changeEnvironment(
  db: Db,
  environmentId: string,
  changes: z.output<typeof environmentChangesSchema>,
  actor: Actor,
  configs: DriverConfigs,
): Promise<Environment | null> {
  const id = parse(idSchema, environmentId, 'environment id');
  return db.transaction(async (tx) => {
    const companyId = (await readEnvironment(tx, id))?.companyId;
    if (companyId === undefined) return null;
    await lockCompanies(tx, [companyId], 'known');
    const before = (await readEnvironment(tx, id))!;
    const previous = new Map<string, unknown>(Object.entries(before));
    const config = changes.config === undefined ? {} : { config: configs.parse(before.driver, changes.config) };
    const changed = Object.entries({ ...changes, ...config }).filter(
      ([field, value]) => value !== undefined && !isDeepStrictEqual(value, previous.get(field)),
    );
    if (changed.length === 0) return before;
    const [after] = await tx
      .update(environments)
      .set({ ...Object.fromEntries(changed), updatedAt: sql`now()` })
      .where(eq(environments.id, id))
      .returning();
    const isArchiving = before.status === 'active' && after!.status === 'archived';
    await recordEnvironmentEvent(tx, after!, isArchiving ? 'environment.archived' : 'environment.updated', actor, {
      changed: changed.map(([field]) => field),
    });
    return after!;
  });
}

async function recordEnvironmentEvent(
  tx: Transaction,
  environment: Environment,
  action: ActivityAction,
  actor: Actor,
  details: Metadata = {},
): Promise<void> {
  const { id, companyId, name, driver } = environment;
  await recordActivity(
    tx,
    { companyId, action, entityType: 'environment', entityId: id, details: { name, driver, ...details } },
    actor,
  );
}
