import { Client } from 'pg';
import { Pipeline } from '../../src/db/pipeline.ts';

/** A query, or a pipelined transaction, of a client of Postgres. */
export interface WatchedQuery {
  client: Client;
  /** The text of the statement, or of each statement of a pipelined transaction. */
  texts: string[];
  /** Whether its texts or values name the run. */
  isAbout: (runId: string) => boolean;
  /** Whether it is a transaction of its own. */
  isTransaction: boolean;
}

type Query = (this: Client, statement: { text?: string } | string | Pipeline, ...rest: unknown[]) => unknown;

/**
 * Calls `watch` with each query of this process before it is sent. For preloads of a worker.
 * @param watch may return a function, which is called once the query has succeeded, before its caller gets the result
 */
export function watchQueries(watch: (query: WatchedQuery) => (() => void) | undefined): void {
  const prototype = Client.prototype as unknown as { query: Query };
  const { query } = prototype;

  prototype.query = function watchAndQuery(statement, ...rest) {
    const isTransaction = statement instanceof Pipeline;
    const texts = isTransaction ? statement.statements.map(({ text }) => text) : [textOf(statement)];
    const content = isTransaction ? statement.statements : [statement, rest[0]];
    const afterwards = watch({
      client: this,
      texts,
      isAbout: (runId) => texts.some((text) => text.includes('lessor.')) && JSON.stringify(content).includes(runId),
      isTransaction,
    });
    const result = query.call(this, statement, ...rest);
    if (afterwards === undefined) return result;
    if (isTransaction) {
      // The caller handles a failure.
      statement.rows.then(afterwards, () => undefined);
      return result;
    }
    return (result as Promise<unknown>).then((answer) => {
      afterwards();
      return answer;
    });
  };
}

function textOf(statement: { text?: string } | string): string {
  return typeof statement === 'string' ? statement : (statement.text ?? '');
}
