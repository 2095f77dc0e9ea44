import { randomUUID } from 'node:crypto';
import { environmentOf } from './model.ts';
import type { Location } from './model.ts';
import type { Population } from './planned-messages.ts';

/** The kinds of the environments. */
export const DRIVERS = { local: 'local', host: 'ssh' } as const satisfies Record<Location, string>;

export const locationOf = (driver: string | null): Location => (driver === DRIVERS.host ? 'host' : 'local');

/** What the name of a lease is made from. */
export interface NameableLease {
  id: string;
  companyId: string;
  /** Of its environment. */
  driver: string | null;
  fencingToken: number;
}

/** Maps ids in Postgres to the numbers of the model. Each sequence has its own. */
export class Names {
  readonly companies: readonly string[];
  readonly runs: readonly string[];
  readonly workspaces: readonly string[];
  readonly #leases = new Map<string, string>();

  constructor({ companies, runs, workspaces }: Population) {
    [this.companies, this.runs, this.workspaces] = [ids(companies), ids(runs), ids(workspaces)];
  }

  /** Names new leases by their environment and the order of their creation. */
  learn(leases: readonly NameableLease[]): void {
    for (const { id, companyId, driver } of leases.toSorted((one, other) => one.fencingToken - other.fencingToken)) {
      if (this.#leases.has(id)) continue;
      const environment = environmentOf(this.companies.indexOf(companyId), locationOf(driver));
      const ordinal = [...this.#leases.values()].filter((name) => name.startsWith(`${environment} #`)).length;
      this.#leases.set(id, `${environment} #${ordinal}`);
    }
  }

  /** The model's name of a lease. */
  lease(id: string): string {
    return this.#leases.get(id) ?? `an unknown lease, ${id}`;
  }

  /** The id of a lease by its name. */
  leaseNamed(name: string): string {
    const found = [...this.#leases].find(([, known]) => known === name);
    if (found === undefined) throw new Error(`the model has a lease ${name} that Postgres never granted`);
    return found[0];
  }

  /** The model's number of a run or workspace. */
  run(id: string | null): number | null {
    return id === null ? null : this.runs.indexOf(id);
  }

  workspace(id: string | null): number | null {
    return id === null ? null : this.workspaces.indexOf(id);
  }
}

const ids = (count: number): string[] => Array.from({ length: count }, () => randomUUID());
