import { Client } from 'pg';
import { Pipeline } from '../../src/db/pipeline.ts';

/** What a client of Postgres is asked for at once. */
export interface WatchedQuery {
  client: Client;
  /** Of one statement, or of several that are sent in one go. */
  texts: string[];
  /** Whether it has to do with a run, by what it says or by the values that are bound to it. */
  isAbout: (runId: string) => boolean;
  /** Whether it is carried out as a transaction of its own. */
  isTransaction: boolean;
}

type Query = (this: Client, statement: { text?: string } | string | Pipeline, ...rest: unknown[]) => unknown;

/**
 * Has each query of this process looked at before it is sent, in a module that is loaded before a worker.
 * @param watch may return what is to be done once the query has been answered well, before anyone else hears of it
 */
export function watchQueries(watch: (query: WatchedQuery) => (() => void) | undefined): void {
  const prototype = Client.prototype as unknown as { query: Query };
  const { query } = prototype;

  prototype.query = function watchAndQuery(statement, ...rest) {
    const isTransaction = statement instanceof Pipeline;
    const texts = isTransaction ? statement.statements.map(({ text }) => text) : [textOf(statement)];
    const said = isTransaction ? statement.statements : [statement, rest[0]];
    const afterwards = watch({
      client: this,
      texts,
      isAbout: (runId) => texts.some((text) => text.includes('lessor.')) && JSON.stringify(said).includes(runId),
      isTransaction,
    });
    const result = query.call(this, statement, ...rest);
    if (afterwards === undefined) return result;
    if (isTransaction) {
      // Whoever asked hears of a failure.
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
