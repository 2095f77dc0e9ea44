import { types } from 'pg';
import type { Connection, FieldDef, Submittable } from 'pg';
import type { PrecompiledStatement } from './precompiled-statement.ts';

interface Column {
  name: string;
  parse: (text: string) => unknown;
}

/** A statement as it is prepared on a connection. */
export interface PreparedStatement {
  name: string;
  columns: readonly Column[];
}

/**
 * Statements that are sent to Postgres in one go, with one Sync after the last: that makes them one transaction, without
 * `begin` and `commit`. Sent as queries of their own, of which node-postgres puts a Sync behind each, they take this
 * process a third more where they are of a few runs.
 *
 * Each is prepared, and its columns are asked for, once a connection.
 */
export class Pipeline implements Submittable {
  readonly statements: readonly PrecompiledStatement[];
  /** The rows of each statement, once all is committed. */
  readonly rows: Promise<unknown[][]>;
  /** Called once. Node-postgres wraps it, to put a limit on the time. */
  callback!: (error: Error | null, rows: unknown[][]) => void;
  /** What is prepared on the connection, by the text of the statement. */
  readonly #prepared: Map<string, PreparedStatement>;
  readonly #newlyPrepared = new Map<string, PreparedStatement>();
  readonly #rows: Record<string, unknown>[][];
  #current = 0;

  constructor(statements: readonly PrecompiledStatement[], prepared: Map<string, PreparedStatement>) {
    this.statements = statements;
    this.#prepared = prepared;
    this.#rows = statements.map(() => []);
    this.rows = new Promise((resolve, reject) => {
      this.callback = (error, rows) => (error === null ? resolve(rows) : reject(error));
    });
  }

  submit(connection: Connection): void {
    connection.stream.cork();
    try {
      for (const { text, values } of this.statements) {
        const known = this.#find(text);
        const { name } = known ?? this.#prepare(connection, text);
        connection.bind({ statement: name, values }, true);
        if (known === undefined) connection.describe({ type: 'P' }, true);
        connection.execute(null, true);
      }
      connection.sync();
    } finally {
      connection.stream.uncork();
    }
  }

  #find(text: string): PreparedStatement | undefined {
    return this.#prepared.get(text) ?? this.#newlyPrepared.get(text);
  }

  #prepare(connection: Connection, text: string): PreparedStatement {
    const position = this.#prepared.size + this.#newlyPrepared.size + 1;
    const statement: PreparedStatement = { name: `lessor_go_${position}`, columns: [] };
    this.#newlyPrepared.set(text, statement);
    // One of that name is there when something failed in the go that prepared it. To close none is no error.
    connection.close({ type: 'S', name: statement.name }, true);
    connection.parse({ name: statement.name, text, types: [] }, true);
    return statement;
  }

  handleRowDescription({ fields }: { fields: readonly FieldDef[] }): void {
    const columns = fields.map(({ name, dataTypeID }) => ({ name, parse: types.getTypeParser(dataTypeID, 'text') }));
    this.#newlyPrepared.get(this.statements[this.#current]!.text)!.columns = columns;
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    const { columns } = this.#find(this.statements[this.#current]!.text)!;
    const row: Record<string, unknown> = {};
    columns.forEach(({ name, parse }, position) => {
      const field = fields[position]!;
      row[name] = field === null ? null : parse(field);
    });
    this.#rows[this.#current]!.push(row);
  }

  handleCommandComplete(): void {
    this.#current += 1;
  }

  handleReadyForQuery(): void {
    for (const [text, statement] of this.#newlyPrepared) this.#prepared.set(text, statement);
    this.callback(null, this.#rows);
  }

  handleError(error: Error): void {
    this.callback(error, []);
  }
}
