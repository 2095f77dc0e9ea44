import { createHash } from 'node:crypto';
import { fillPlaceholders } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { types } from 'pg';
import type { Connection, FieldDef, Submittable } from 'pg';

/** A statement with its values. */
export interface PrecompiledStatement {
  /** By which it is prepared on a connection. */
  readonly name: string;
  readonly text: string;
  readonly values: (string | null)[];
}

/**
 * Renders a statement to text once, with a placeholder for each value, and returns what binds values to it. Rendering it
 * per call costs more than the rest of what this process does for a single run.
 */
export function precompile<Name extends string>(
  statement: SQL,
): (values: Record<Name, string | null>) => PrecompiledStatement {
  const { sql: text, params } = new PgDialect().sqlToQuery(statement);
  const name = statementName(text);
  return (values) => ({ name, text, values: fillPlaceholders(params, values) as (string | null)[] });
}

const statementNames = new Map<string, string>();

/**
 * The name by which a statement is prepared: a hash of its text, so that a name stands for the same statement in every
 * process, also where a pooler hands one process's session to another.
 */
export function statementName(text: string): string {
  let name = statementNames.get(text);
  if (name === undefined) {
    name = `lessor_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
    statementNames.set(text, name);
  }
  return name;
}

interface Column {
  name: string;
  parse: (text: string) => unknown;
}

/** The columns of the statements that a connection has described, by statement name. */
export type DescribedStatements = Map<string, readonly Column[]>;

/** Node-postgres' own registry of what is prepared on a connection, which its types leave out: texts by name. */
interface PreparingConnection extends Connection {
  readonly parsedStatements: Readonly<Record<string, string>>;
}

/**
 * A pipelined transaction: prepared statements followed by one Sync, which makes them a transaction without `begin` and
 * `commit`. Sent as queries of their own, each with a Sync, they cost this process a third more for batches of a few
 * runs.
 *
 * Each statement is prepared and described once per connection.
 */
export class Pipeline implements Submittable {
  readonly statements: readonly PrecompiledStatement[];
  /** The rows of each statement, once the transaction is committed. */
  readonly rows: Promise<unknown[][]>;
  /** Called once. Node-postgres wraps it to apply its `query_timeout`. */
  callback!: (error: Error | null, rows: unknown[][]) => void;
  readonly #described: DescribedStatements;
  readonly #rows: Record<string, unknown>[][];
  #current = 0;

  constructor(statements: readonly PrecompiledStatement[], described: DescribedStatements) {
    this.statements = statements;
    this.#described = described;
    this.#rows = statements.map(() => []);
    this.rows = new Promise((resolve, reject) => {
      this.callback = (error, rows) => (error === null ? resolve(rows) : reject(error));
    });
  }

  /** With {@link text}, what node-postgres enters into its registry when Postgres says that it has parsed a statement. */
  get name(): string | undefined {
    return this.statements[this.#current]?.name;
  }

  get text(): string | undefined {
    return this.statements[this.#current]?.text;
  }

  submit(connection: Connection): void {
    const { parsedStatements } = connection as PreparingConnection;
    const parsing = new Set<string>();
    connection.stream.cork();
    try {
      for (const { name, text, values } of this.statements) {
        if (parsedStatements[name] === undefined && !parsing.has(name)) {
          parsing.add(name);
          connection.parse({ name, text, types: [] }, true);
        }
        connection.bind({ statement: name, values }, true);
        if (!this.#described.has(name)) connection.describe({ type: 'P' }, true);
        connection.execute(null, true);
      }
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  }

  handleRowDescription({ fields }: { fields: readonly FieldDef[] }): void {
    const columns = fields.map(({ name, dataTypeID }) => ({ name, parse: types.getTypeParser(dataTypeID, 'text') }));
    this.#described.set(this.statements[this.#current]!.name, columns);
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    const columns = this.#described.get(this.statements[this.#current]!.name)!;
    const row: Record<string, unknown> = {};
    columns.forEach(({ name, parse }, position) => {
      const field = fields[position]!;
      row[name] = field === null ? null : parse(field);
    });
    this.#rows[this.#current]!.push(row);
  }

  handleCommandComplete(): void {
    const { name } = this.statements[this.#current]!;
    // A statement without rows has no row description.
    if (!this.#described.has(name)) this.#described.set(name, []);
    this.#current += 1;
  }

  handleReadyForQuery(): void {
    this.callback(null, this.#rows);
  }

  handleError(error: Error): void {
    this.callback(error, []);
  }
}
