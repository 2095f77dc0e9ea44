import { expect, test } from 'vitest';
import { lessor } from '../commands/lessor.ts';
import { callsIn, readDocuments } from './documents.ts';
import type { Call } from './documents.ts';

const calls = (await readDocuments()).flatMap((document) => callsIn(document));

test('the documents show calls of lessor', () => {
  expect(calls.length).toBeGreaterThan(20);
});

const commands = new Map<string, Call[]>();
for (const call of calls) {
  const command = call.command.join(' ');
  commands.set(command, [...(commands.get(command) ?? []), call]);
}

test.for([...commands])(
  'every documented call of `lessor %s` is of a command that takes its flags',
  async ([command, documented]) => {
    const { exit, stdout } = await lessor([...command.split(' '), '--help']);
    expect({ command, exit }).toEqual({ command, exit: 0 });
    expect(stdout).toMatch(new RegExp(`^Usage: lessor ${command} `, 'm'));
    for (const { document, text, flags } of documented) {
      const unknown = flags.map((flag) => flag.split('=')[0]!).filter((flag) => !new RegExp(`${flag}\\b`).test(stdout));
      expect({ document, text, unknown }).toEqual({ document, text, unknown: [] });
    }
  },
);
