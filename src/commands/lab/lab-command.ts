import { Command, Option } from 'commander';
import type { LabFlags } from './run-lab.ts';

/** `lessor environments lab` */
export function labCommand(): Command {
  return new Command('lab')
    .description(
      'show what an SSH environment does, on a throwaway SSH server and an embedded Postgres: exit 1 when a row fails',
    )
    .addOption(
      new Option(
        '--server <kind>',
        'the SSH server: OpenSSH’s, default where it is installed, or one in this process',
      ).choices(['sshd', 'builtin']),
    )
    .option('--json', 'print one JSON object instead of a table', false)
    .action(async (flags: LabFlags) => {
      // Loaded here: no other command needs any of it.
      const { runLab } = await import('./run-lab.ts');
      await runLab(flags);
    });
}
