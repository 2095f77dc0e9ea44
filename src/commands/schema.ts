import { Command } from 'commander';
import { payloadJsonSchemas } from '../contracts/index.ts';

/** `lessor schema`: the contract for clients in other languages. */
export function schemaCommand(): Command {
  return new Command('schema').description('print the JSON Schema of every payload, by queue').action(() => {
    process.stdout.write(`${JSON.stringify(payloadJsonSchemas(), null, 2)}\n`);
  });
}
