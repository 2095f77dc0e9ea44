import { Command } from 'commander';
import type { LabFlags } from './run-lab.ts';

/** `lessor environments lab` */
export function labCommand(): Command {
  return new Command('lab')
    .description(
      'show what an SSH environment does, on an ephemeral sshd and an embedded Postgres: exit 1 when a row fails',
    )
    .option('--json', 'print one JSON object instead of a table', false)
    .action(async (flags: LabFlags) => {
      // Loaded here: no other command needs any of it.
      const { runLab } = await import('./run-lab.ts');
      await runLab(flags);
    });
}
