import { expect, test } from 'vitest';
import { lessor } from '../commands/lessor.ts';
import { callsIn } from './examples.ts';

test.for(['README.md', 'docs/environments.md'])(
  'every call of lessor in %s is of a command that takes its flags',
  async (document) => {
    const calls = await callsIn(document);
    expect(calls.length).toBeGreaterThan(0);
    for (const { line, command, flags } of calls) {
      const { exit, stdout } = await lessor([...command, '--help']);
      expect({ line, exit }).toEqual({ line, exit: 0 });
      expect(stdout).toContain(`Usage: lessor ${command.join(' ')} [options]`);
      for (const flag of flags) expect(stdout).toMatch(new RegExp(`${flag}\\b`));
    }
  },
);
